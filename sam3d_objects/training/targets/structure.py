"""Targets of the structure stage: what the frozen encoder makes of an organ, and how much of it the decoder
gives back.

Letters: R grid side, T shape tokens, C their channels.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sam3d_objects.arrays import FloatArray
from sam3d_objects.mesh import (
    SOLID_SUPERSAMPLE,
    Mesh,
    object_grid_affine,
    occupancy_grid,
    solid_from_shell,
    surface_from_field,
)
from sam3d_objects.model import SAM3DObjects, fingerprint
from sam3d_objects.training.targets.distance import SurfaceDistance, distance_between
from sam3d_objects.training.targets.folder import distance_from_texts, distance_texts, keep, read_kept, shape_key

_BATCH = 8
_LAYOUT = "structure targets, 2"  # what is kept, and how it is measured
_LEVEL = 0.5  # of the solid's share: its surface


@dataclass(frozen=True)
class StructureTarget:
    """What the flow shall learn for one shape.

    Attributes:
        tokens: (T, C) float32, the posterior mean, not normalised.
        iou: overlap of the shape's occupancy with what the frozen decoder makes of the tokens, in [0, 1].
        distance: between the shape and the decoded surface, the shape's longest side being 1.
    """

    tokens: Tensor
    iou: float
    distance: SurfaceDistance


def occupancy_iou(logits: Tensor, occupancy: Tensor) -> float:
    """Return |A and B| / |A or B| of logits > 0 and occupancy > 0.5; 1 where both are empty."""
    decoded, given = logits > 0, occupancy > 0.5
    union = int((decoded | given).sum())
    return int((decoded & given).sum()) / union if union else 1.0


def structure_surface(shares: FloatArray, occupancy: str) -> Mesh:
    """Return the surface of a structure's grid, in object coordinates, as inference takes it.

    Args:
        shares: (R, R, R) in [0, 1]: of the solid in each voxel, or of a surface being there.
        occupancy: `solid`, or `surface` for the middle of the shell of voxels above 1/2.

    Returns:
        a closed mesh; an empty one where nothing is above 1/2.
    """
    field = shares if occupancy == "solid" else solid_from_shell(shares > _LEVEL)
    if not (field > _LEVEL).any():
        return Mesh(np.zeros((0, 3)), np.zeros((0, 3), dtype=np.int64))
    return surface_from_field(field, _LEVEL, object_grid_affine(len(field)))


class StructureTargets:
    """Makes structure targets once and keeps them in a folder, keyed by the SHA-256 of all that made them.

    Args:
        model: its encoder and decoder are used, frozen, in float32.
        folder: where targets are kept; files of other models and shapes may lie beside them.

    Attributes:
        maker: all that a target depends on beside its shape.
    """

    def __init__(self, model: SAM3DObjects, folder: Path) -> None:
        self.model, self.folder = model, folder
        makers = (fingerprint(model.structure_encoder), fingerprint(model.structure_decoder))
        self.maker = f"{_LAYOUT} {model.settings} {SOLID_SUPERSAMPLE} {' '.join(makers)}"

    def key(self, mesh_object: Mesh) -> str:
        """Return the key of a shape's target: 64 hex digits."""
        return shape_key(self.maker, mesh_object)

    def targets(self, meshes_object: Iterable[Mesh]) -> Iterator[StructureTarget]:
        """Yield the target of each closed shape in object coordinates, from the folder where it is there."""
        shapes = iter(meshes_object)
        while chunk := list(islice(shapes, _BATCH)):
            paths = [self.folder / f"{self.key(mesh)}.safetensors" for mesh in chunk]
            found = [_read(path) for path in paths]
            made = iter(self._make([mesh for mesh, kept in zip(chunk, found, strict=True) if kept is None]))
            for path, kept in zip(paths, found, strict=True):
                yield kept or _keep(path, next(made))

    @torch.no_grad()
    def _make(self, meshes_object: Sequence[Mesh]) -> list[StructureTarget]:
        if not meshes_object:
            return []
        settings = self.model.settings
        grids = [occupancy_grid(mesh, settings.resolution, settings.occupancy) for mesh in meshes_object]
        # Never one alone: torch convolves a batch of one in 3D by a path that is several times slower, and
        # rounds otherwise. From two on, a shape's target does not depend on what is beside it.
        padded = grids if len(grids) > 1 else grids * 2
        occupancy = torch.from_numpy(np.stack(padded))[:, None].to(self.model.device)
        tokens = self.model.encode_structure(occupancy).float()
        logits = self.model.decode_structure(tokens)
        made = []
        for index, mesh in enumerate(meshes_object):
            shares = torch.sigmoid(logits[index, 0]).double().cpu().numpy()
            distance = distance_between(mesh, structure_surface(shares, settings.occupancy))
            iou = occupancy_iou(logits[index], occupancy[index])
            made.append(StructureTarget(tokens[index].cpu().clone(), iou, distance))
        return made


def _keep(path: Path, target: StructureTarget) -> StructureTarget:
    keep(path, {"tokens": target.tokens}, {"iou": repr(target.iou)} | distance_texts(target.distance))
    return target


def _read(path: Path) -> StructureTarget | None:
    kept = read_kept(path)
    if kept is None:
        return None
    tensors, texts = kept
    return StructureTarget(tensors["tokens"], float(texts["iou"]), distance_from_texts(texts))
