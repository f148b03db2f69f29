"""Inversion: the distances that it aims at, and that the search finds latents that give the shape back."""

import numpy as np
import pytest
import torch
from torch import Tensor

from sam3d_objects.mesh import Mesh, occupancy_grid
from sam3d_objects.model.flexicubes import corner_values
from sam3d_objects.model.latent.stage import LatentStage
from sam3d_objects.model.latent.voxels import latent_voxels
from sam3d_objects.model.sparse import SparseGrid, SparseTensor
from sam3d_objects.training.losses import sign_loss
from sam3d_objects.training.targets import InversionOptions, invert
from sam3d_objects.training.targets.inversion import CornerField
from tests.training.small_model import SIDE, small_latent_stage
from tests.training.targets.solids import ellipsoid

RADIUS = 0.2  # few voxels, for speed


@pytest.fixture(scope="module")
def stage() -> LatentStage:
    return small_latent_stage()


@pytest.fixture(scope="module")
def ball() -> Mesh:
    return ellipsoid(RADIUS, RADIUS, RADIUS)


def voxels(shape: Mesh) -> Tensor:
    shares, touched = (occupancy_grid(shape, SIDE, kind) for kind in ("solid", "surface"))
    return latent_voxels(shares, touched, "solid")[0]


def sign_loss_of(stage: LatentStage, latents: Tensor, coordinates: Tensor, shape: Mesh) -> float:
    with torch.no_grad():
        cubes = stage.mesh_decoder(SparseTensor(latents, SparseGrid(coordinates, 1)))
        corners = corner_values(cubes.features, cubes.grid.coordinates[:, 1:], 4 * SIDE)
        return sign_loss(corners.sdf, CornerField(shape, corners).at(corners.positions)).item()


def test_distances_at_moved_corners_are_those_of_a_ball(stage: LatentStage, ball: Mesh) -> None:
    coordinates = voxels(ball)
    latents = torch.randn(len(coordinates), 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        cubes = stage.mesh_decoder(SparseTensor(latents, SparseGrid(coordinates, 1)))
    corners = corner_values(cubes.features, cubes.grid.coordinates[:, 1:], 4 * SIDE)
    positions = corners.positions + 0.003 * torch.randn(corners.positions.shape)
    positions = positions.detach().requires_grad_()
    distances = CornerField(ball, corners).at(positions)
    true = (positions.norm(dim=1) - RADIUS) * 4 * SIDE
    torch.testing.assert_close(distances, true, atol=0.1, rtol=0)  # a tenth of a cube
    (gradient,) = torch.autograd.grad(distances.sum(), positions)
    outward = torch.nn.functional.normalize(positions.detach(), dim=1) * 4 * SIDE
    assert torch.nn.functional.cosine_similarity(gradient, outward).min() > 0.98


def test_the_search_lowers_the_loss_and_leaves_the_decoder_alone(stage: LatentStage, ball: Mesh) -> None:
    before = {name: value.clone() for name, value in stage.mesh_decoder.state_dict().items()}
    coordinates, options = voxels(ball), InversionOptions(steps=6, lr=0.3)
    found = invert(stage.mesh_decoder, stage.mean, stage.std, coordinates, ball, options)
    assert found.shape == (len(coordinates), 8) and not found.requires_grad
    start = sign_loss_of(stage, stage.mean.expand(len(coordinates), 8), coordinates, ball)
    assert sign_loss_of(stage, found, coordinates, ball) < 0.95 * start
    assert all(torch.equal(value, before[name]) for name, value in stage.mesh_decoder.state_dict().items())
    assert all(parameter.grad is None for parameter in stage.mesh_decoder.parameters())
    again = invert(stage.mesh_decoder, stage.mean, stage.std, coordinates, ball, options)
    assert torch.equal(found, again)


def test_a_strong_prior_keeps_the_mean(stage: LatentStage, ball: Mesh) -> None:
    coordinates = voxels(ball)
    spread = []
    for weight in (0.0, 1e4):
        options = InversionOptions(steps=4, lr=0.05, prior_weight=weight)
        found = invert(stage.mesh_decoder, stage.mean, stage.std, coordinates, ball, options)
        spread.append(float(((found - stage.mean) / stage.std).square().mean()))
    assert spread[1] < 0.5 * spread[0]


@pytest.mark.parametrize(("options", "message"), [({"steps": 0}, "steps"), ({"lr": 0.0}, "lr"), ({"lr": np.inf}, "lr")])
def test_bad_options_say_what_they_may_be(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=f"inversion: {message} must be"):
        InversionOptions(**options)  # type: ignore[arg-type]  # an int and floats
