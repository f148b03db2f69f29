"""Pretrain the latent encoder and the mesh decoder together on the signed fields of procedural shapes.

Letters: N voxels of a batch, A corners of the active cubes, R the latent grid's side.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from sam3d_objects.model.flexicubes import corner_values
from sam3d_objects.model.latent.encoder import LatentEncoder
from sam3d_objects.model.latent.features import distance_features, voxel_points
from sam3d_objects.model.latent.mesh_decoder import MeshDecoder
from sam3d_objects.model.sparse import SparseGrid, SparseTensor
from sam3d_objects.model.structure.voxels import crossed_coordinates
from sam3d_objects.pretraining.bank import FIELD_SIDE, FIELD_STEP, ShapeBank

KL_WEIGHT = 1e-3
KL_WARMUP_STEPS = 100
# Scalars are trained to be distances in fine cubes, clamped where only the sign matters.
CLAMP_CUBES = 3.0
DEFORM_WEIGHT, WEIGHTS_WEIGHT = 0.02, 0.02


class LatentVae(nn.Module):
    """Encoder and decoder as one module to train."""

    def __init__(self, encoder: LatentEncoder, decoder: MeshDecoder) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder


def distances_at(bank: ShapeBank, index: int, points: Tensor) -> Tensor:
    """Signed distances (...), negative inside, the object's longest side being 1, at object points (..., 3).

    Interpolates the bank's field, whose axes are the object's; differentiable in the points.
    """
    field = torch.from_numpy(bank.fields[index].astype(np.float32))[None, None]
    size, center = float(bank.sizes_vox[index]), torch.from_numpy(bank.centers_vox[index])
    voxels = points.reshape(1, -1, 1, 1, 3) * size + center
    # Voxel centres lie on the corners of grid_sample's cube; its order is z, y, x.
    unit = (voxels / (FIELD_SIDE - 1) * 2 - 1).flip(-1)
    values = nn.functional.grid_sample(field, unit, mode="bilinear", padding_mode="border", align_corners=True)
    return (-values.reshape(points.shape[:-1])) * (FIELD_STEP / size)


@dataclass(frozen=True, eq=False)
class ShellBatch:
    """Shapes as the latent encoder takes them: features (N, 27) on the shells' voxels, and which shapes they are."""

    voxels: SparseTensor
    shapes: list[int]


def shell_batch(bank: ShapeBank, shapes: list[int]) -> ShellBatch:
    """Prepare the shells of some shapes of the bank."""
    resolution = bank.solids.shape[1]
    solids = torch.from_numpy(bank.solids[shapes]).float() / 255
    coordinates = crossed_coordinates(solids[:, None])
    grid = SparseGrid(coordinates, len(shapes))
    parts = [
        distances_at(bank, shape, voxel_points(coordinates[start:stop, 1:], resolution))
        for shape, start, stop in zip(shapes, grid.offsets, grid.offsets[1:], strict=False)
    ]
    return ShellBatch(SparseTensor(distance_features(torch.cat(parts), resolution), grid), shapes)


def latent_vae_loss(
    vae: LatentVae, bank: ShapeBank, batch: int, seed: int, step: int
) -> tuple[Tensor, dict[str, float]]:
    """Distances at the corners of the decoded cubes, with their sign, and a small KL term."""
    generator = np.random.default_rng([seed, step])
    data = shell_batch(bank, [int(index) for index in generator.integers(len(bank), size=batch)])
    mean, logvar = vae.encoder(data.voxels)
    noise = torch.from_numpy(generator.standard_normal(tuple(mean.shape), dtype=np.float32))
    cubes = vae.decoder(data.voxels.replace(mean + torch.exp(0.5 * logvar) * noise))
    kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
    parts = [
        _corner_terms(bank, shape, cubes.features[start:stop], cubes.grid.coordinates[start:stop, 1:], vae.decoder)
        for shape, start, stop in zip(data.shapes, cubes.grid.offsets, cubes.grid.offsets[1:], strict=False)
    ]
    distance, sign, rest = (torch.stack(terms).mean() for terms in zip(*parts, strict=True))
    loss = distance + sign + rest + KL_WEIGHT * min(1.0, (step + 1) / KL_WARMUP_STEPS) * kl
    return loss, {"distance": distance.item(), "sign": sign.item(), "rest": rest.item(), "kl": kl.item()}


def _corner_terms(
    bank: ShapeBank, shape: int, features: Tensor, coordinates: Tensor, decoder: MeshDecoder
) -> tuple[Tensor, Tensor, Tensor]:
    """Clamped distance (in cubes), sign, and what keeps corners in place and weights neutral, for one shape."""
    resolution = decoder.fine_resolution
    corners = corner_values(features, coordinates, resolution)
    # At the deformed corners: that is where the extraction places the scalar.
    true = distances_at(bank, shape, corners.positions) * resolution
    distance = nn.functional.smooth_l1_loss(
        corners.sdf.clamp(-CLAMP_CUBES, CLAMP_CUBES), true.clamp(-CLAMP_CUBES, CLAMP_CUBES)
    )
    # Beyond the clamp the distance has no gradient; the sign always has.
    sign = nn.functional.binary_cross_entropy_with_logits(-2 * corners.sdf, torch.sigmoid(-4 * true))
    return (
        distance,
        sign,
        DEFORM_WEIGHT * corners.deform.square().mean() + WEIGHTS_WEIGHT * corners.weights.square().mean(),
    )


@torch.no_grad()
def standardise_latents(vae: LatentVae, bank: ShapeBank, shapes: int = 64) -> None:
    """Give the latents' channels mean 0 and deviation 1, exactly, within the encoder's last, the decoder's first layer.

    So `slat_mean` is 0 and `slat_std` is 1 for the tiny model, whatever its training made of them.
    """
    means = torch.cat([vae.encoder(shell_batch(bank, [index]).voxels)[0] for index in range(min(shapes, len(bank)))])
    mean, std = means.mean(dim=0), means.std(dim=0)
    last, first, channels = vae.encoder.out_layer, vae.decoder.input_layer, means.shape[1]
    last.weight[:channels] /= std[:, None]
    last.bias[:channels] = (last.bias[:channels] - mean) / std
    # The variance shrinks with the square.
    last.bias[channels:] -= 2 * std.log()
    first.bias.copy_(first.bias + first.weight @ mean)
    first.weight *= std
