"""Targets of the latent stage, and inputs of the decoder stage: the latents of an organ's surface voxels.

They come from the latent encoder, or by inversion through the frozen mesh decoder. Letters: R side of the latents'
grid, N voxels.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sam3d_objects.mesh import SOLID_SUPERSAMPLE, Mesh, occupancy_grid, signed_distance
from sam3d_objects.model import SAM3DObjects, fingerprint
from sam3d_objects.model.latent.encoder import LatentEncoder
from sam3d_objects.model.latent.features import distance_features, voxel_points
from sam3d_objects.model.latent.mesh_decoder import MeshDecoder
from sam3d_objects.model.latent.stage import LatentStage
from sam3d_objects.model.latent.voxels import latent_voxels
from sam3d_objects.model.loading import AbsentModule
from sam3d_objects.model.offload import on_device
from sam3d_objects.model.sparse import SparseGrid, SparseTensor
from sam3d_objects.training.targets.distance import SurfaceDistance, distance_between
from sam3d_objects.training.targets.folder import distance_from_texts, distance_texts, keep, read_kept, shape_key
from sam3d_objects.training.targets.inversion import InversionOptions, invert
from sam3d_objects.training.targets.surfaces import mesh_of_features

AUTO, ENCODER, INVERSION = "auto", "encoder", "inversion"
SOURCES = (AUTO, ENCODER, INVERSION)
_LAYOUT = "latent targets, 1"  # what is kept, and how it is made and measured


@dataclass(frozen=True, eq=False)
class LatentTarget:
    """The latents of one shape.

    Attributes:
        coordinates: (N, 4) int32, sample 0 and x, y, z of the surface's voxels, sorted.
        latents: (N, 8) float32, not normalised.
        interior: (1, R, R, R) bool, voxels that the surface encloses and that have no latents.
        distance: between the shape and the surface decoded from the latents, the shape's longest side being 1.
    """

    coordinates: Tensor
    latents: Tensor
    interior: Tensor
    distance: SurfaceDistance


def resolve_source(stage: LatentStage, source: str) -> tuple[str, str]:
    """Return `encoder` or `inversion`, and in words why.

    Args:
        stage: whose encoder there is or is not.
        source: `auto` takes the encoder where it can be run, else inversion.

    Raises:
        ValueError: an unknown source, or an encoder is asked for that cannot be run.
    """
    if source not in SOURCES:
        raise ValueError(f"the source of latent targets is one of {', '.join(SOURCES)}; got {source!r}")
    hindrance = ""
    if isinstance(stage.encoder, AbsentModule):
        hindrance = stage.encoder.reason
    elif stage.settings.voxel_features == "views":
        hindrance = "the latent encoder takes DINOv2 features of rendered views, which are not made here"
    if source == ENCODER and hindrance:
        raise ValueError(f"latent targets by the encoder: {hindrance}; take inversion as the source, or auto")
    if source == INVERSION:
        return INVERSION, "inversion was asked for"
    return (INVERSION, hindrance) if hindrance else (ENCODER, "the encoder's weights are there")


class LatentTargets:
    """Makes latent targets once and keeps them in a folder, keyed by the SHA-256 of all that made them.

    Args:
        model: with its latent stage, whose encoder and decoder are frozen and used in float32.
        folder: where targets are kept; files of other models and shapes may lie beside them.
        source: `auto`, `encoder` or `inversion`, see `resolve_source`.
        inversion: how latents are searched for, where they are.
        device: where encoder and decoder work; default: where they are.
        decoder: in the place of the model's own. Whoever trains that one gives a copy from before here, for a trained
            decoder makes other targets.

    Attributes:
        source, reason: `encoder` or `inversion`, and in words why.
        maker: all that a target depends on beside its shape.

    Raises:
        ValueError: as `resolve_source`.
    """

    def __init__(
        self,
        model: SAM3DObjects,
        folder: Path,
        source: str = AUTO,
        inversion: InversionOptions | None = None,
        device: torch.device | None = None,
        decoder: MeshDecoder | None = None,
    ) -> None:
        stage = model.latent_stage
        self.stage, self.folder, self.occupancy = stage, folder, model.settings.occupancy
        self.inversion = inversion or InversionOptions()
        self.source, self.reason = resolve_source(stage, source)
        self.decoder = (decoder or stage.mesh_decoder).requires_grad_(False)
        stage.encoder.requires_grad_(False)
        self.device = device or next(self.decoder.parameters()).device
        self._decoder_before = fingerprint(self.decoder)
        how = fingerprint(stage.encoder) if self.source == ENCODER else f"{self.inversion}"
        self.maker = (
            f"{_LAYOUT} {self.source} {how} {self._decoder_before} {stage.settings.mean} {stage.settings.std} "
            f"{self.occupancy} {self.decoder.resolution} {SOLID_SUPERSAMPLE}"
        )

    def key(self, mesh_object: Mesh) -> str:
        """Return the key of a shape's target: 64 hex digits."""
        return shape_key(self.maker, mesh_object)

    def targets(self, meshes_object: Iterable[Mesh]) -> Iterator[LatentTarget]:
        """Yield the target of each closed shape in object coordinates, from the folder where it is there."""
        for mesh in meshes_object:
            path = self.folder / f"{self.key(mesh)}.safetensors"
            kept = _read(path, self.decoder.resolution)
            yield kept or _keep(path, self._make(mesh))

    @torch.no_grad()
    def _make(self, mesh_object: Mesh) -> LatentTarget:
        assert fingerprint(self.decoder) == self._decoder_before, "the decoder was trained since: give a copy of it"
        resolution = self.decoder.resolution
        shares, touched = (occupancy_grid(mesh_object, resolution, kind) for kind in ("solid", "surface"))
        coordinates, interior = latent_voxels(shares, touched, self.occupancy)
        with on_device(self.decoder, self.device):
            latents = self._latents(mesh_object, coordinates)
            decoded = decode(self.decoder, coordinates, latents, interior)
        return LatentTarget(coordinates, latents.cpu(), interior, distance_between(mesh_object, decoded))

    def _latents(self, mesh_object: Mesh, coordinates: Tensor) -> Tensor:
        if self.source == ENCODER:
            with on_device(self.stage.encoder, self.device):
                return encode(self.stage.encoder, mesh_object, coordinates).float()
        mean, std = self.stage.mean.to(self.device), self.stage.std.to(self.device)
        return invert(self.decoder, mean, std, coordinates.to(self.device), mesh_object, self.inversion)


def encode(encoder: LatentEncoder, mesh_object: Mesh, coordinates: Tensor) -> Tensor:
    """Return the posterior means (N, 8) of a shape's voxels (N, 4), by an encoder of signed distances.

    Raises:
        ValueError: the encoder's weights are not there, or the mesh is open.
    """
    device = next(encoder.parameters(), torch.empty(0)).device
    points = voxel_points(coordinates[:, 1:], encoder.resolution).double().numpy()
    distances = torch.from_numpy(signed_distance(mesh_object, points.reshape(-1, 3))).float().view(points.shape[:2])
    features = distance_features(distances, encoder.resolution).to(device)
    mean, _ = encoder(SparseTensor(features, SparseGrid(coordinates.to(device), 1)))
    return mean


@torch.no_grad()
def decode(decoder: MeshDecoder, coordinates: Tensor, latents: Tensor, interior: Tensor) -> Mesh:
    """Return the outer surface, in object coordinates, that latents (N, 8) on voxels (N, 4) decode to.

    Args:
        interior: (1, R, R, R) bool, what the voxels enclose.
    """
    device = next(decoder.parameters()).device
    cubes = decoder(SparseTensor(latents.to(device), SparseGrid(coordinates.to(device), 1)))
    places, known = cubes.grid.coordinates[:, 1:], interior[0].to(device)
    return mesh_of_features(cubes.features.float(), places, decoder.fine_resolution, known)


def _keep(path: Path, target: LatentTarget) -> LatentTarget:
    bits = torch.from_numpy(np.packbits(target.interior.numpy()))
    tensors = {"coordinates": target.coordinates, "latents": target.latents, "interior": bits}
    keep(path, tensors, distance_texts(target.distance))
    return target


def _read(path: Path, resolution: int) -> LatentTarget | None:
    kept = read_kept(path)
    if kept is None:
        return None
    tensors, texts = kept
    bits = np.unpackbits(tensors["interior"].numpy(), count=resolution**3).astype(bool)
    interior = torch.from_numpy(bits.reshape((1,) + (resolution,) * 3))
    return LatentTarget(tensors["coordinates"], tensors["latents"], interior, distance_from_texts(texts))
