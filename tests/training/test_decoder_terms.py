"""The decoder's terms for one shape, on a ball whose distance is known at every corner."""

import math

import pytest
import torch
from torch import Tensor

from sam3d_objects.training.stages.decoder_terms import (
    DECODER_WEIGHTS,
    CubeFeatures,
    TermDraws,
    asked_corners,
    decoder_terms,
    true_points,
)
from tests.mesh.shapes import sphere

SIDE, FACTOR, RADIUS = 6, 4, 0.35
RESOLUTION = SIDE * FACTOR
SCALE = 1 / RESOLUTION  # the scalars below are distances in the object's unit
BALL = sphere(RADIUS, 0.03)
ALL = dict.fromkeys(DECODER_WEIGHTS, 1.0)


def ball_cubes(radius: float = RADIUS, colour: bool = False) -> CubeFeatures:
    """The cubes of the voxels that a sphere passes; what they say is the distance to one of another radius."""
    axis = (torch.arange(SIDE, dtype=torch.float64) + 0.5) / SIDE - 0.5
    distance = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij")).norm(dim=0) - RADIUS
    shell = distance.abs() <= 3**0.5 / 2 / SIDE
    steps = torch.arange(FACTOR)
    cubes = (torch.argwhere(shell)[:, None] * FACTOR + torch.cartesian_prod(steps, steps, steps)).flatten(0, 1)
    corners = torch.tensor([[c & 1, c >> 1 & 1, c >> 2] for c in range(8)])
    features = torch.zeros(len(cubes), 101 if colour else 53, dtype=torch.float64)
    features[:, :8] = ((cubes[:, None] + corners) / RESOLUTION - 0.5).norm(dim=-1) - radius + 1 / RESOLUTION
    return CubeFeatures(features, cubes, RESOLUTION, (distance < 0) & ~shell)


def draws(count: int = 800, seed: int = 0) -> TermDraws:
    generator = torch.Generator().manual_seed(seed)
    corners, found, true = (torch.rand(count, width, generator=generator, dtype=torch.float64) for width in (1, 3, 3))
    return TermDraws(corners[:, 0], found, true)


def terms(made: CubeFeatures, weights: dict[str, float] = ALL) -> dict[str, float]:
    return {name: term.item() for name, term in decoder_terms(made, BALL, draws(), weights, SCALE).items()}


@pytest.mark.parametrize("colour", [False, True])
def test_each_term_of_distance_is_least_for_the_true_ball(colour: bool) -> None:
    right, small, large = (terms(ball_cubes(RADIUS + step / RESOLUTION, colour)) for step in (0.0, -1.0, 1.0))
    assert set(right) == set(DECODER_WEIGHTS)
    for wrong in (small, large):
        assert right["sdf"] < 0.1 * wrong["sdf"] and right["sign"] < 0.5 * wrong["sign"]
        # A cube away on each side adds 1 to either mean square.
        assert wrong["chamfer"] - right["chamfer"] == pytest.approx(2, abs=0.4)
        # One cube off, but for the corners that are beyond the clamp both ways.
        assert 0.3 < wrong["sdf"] < 1


def test_the_corners_asked_are_where_the_surface_is_made() -> None:
    made = ball_cubes()
    made.features[:, 8:32] = 2 * torch.randn(len(made.features), 24, dtype=torch.float64)
    scalars, distances = asked_corners(made, BALL, draws(500).corners)
    plain, undeformed = asked_corners(ball_cubes(), BALL, draws(500).corners)
    assert torch.equal(scalars, plain)  # a deformed corner keeps its scalar
    assert torch.allclose(plain / SCALE, undeformed, atol=0.05)
    moved = (distances - undeformed).abs()
    assert moved.max() < 0.9 and moved.mean() > 0.1  # by less than half a cube along each axis


def test_every_corner_can_be_asked() -> None:
    made = ball_cubes()
    scalars, _ = asked_corners(made, BALL, torch.tensor([0.0, 1.0 - 1e-12, 1.0], dtype=torch.float64))
    assert scalars[1] == scalars[2] and torch.isfinite(scalars).all()


def test_the_whole_is_a_weighted_sum_and_what_weighs_nothing_is_not_there() -> None:
    made = ball_cubes(RADIUS * 1.05)
    weights = {**dict.fromkeys(DECODER_WEIGHTS, 0.0), "sign": 2.0, "edges": 0.5}
    found, plain = terms(made, weights), terms(made)
    assert set(found) == {"sign", "edges"}
    assert found["sign"] == pytest.approx(2 * plain["sign"]) and found["edges"] == pytest.approx(plain["edges"] / 2)


def test_the_gradient_is_finite_differences() -> None:
    made, drawn = ball_cubes(RADIUS * 1.02), draws(200)
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(made.features.shape, generator=generator, dtype=torch.float64)
    noise[:, :8] *= 0.05 * SCALE
    features = made.features + 0.3 * noise
    # Offsets of corners are left out: a corner's true distance is taken as it is where it is, not as where it may go.
    direction = torch.randn(features.shape, generator=generator, dtype=torch.float64)
    direction[:, :8] *= SCALE
    direction[:, 8:32] = 0

    def total(features: Tensor) -> Tensor:
        cubes = CubeFeatures(features, made.cubes, made.resolution, made.interior)
        return torch.stack(list(decoder_terms(cubes, BALL, drawn, ALL, SCALE).values())).sum()

    leaf = features.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(total(leaf), leaf)
    step = 1e-6
    numeric = (total(features + step * direction) - total(features - step * direction)) / (2 * step)
    assert (gradient * direction).sum().item() == pytest.approx(numeric.item(), rel=1e-4)
    assert gradient[:, 8:32].abs().max() > 0  # the surface's terms do move corners


def test_where_nothing_is_inside_the_sign_alone_pulls() -> None:
    made = ball_cubes()
    features = torch.full_like(made.features, 0.5).requires_grad_()
    empty = CubeFeatures(features, made.cubes, RESOLUTION, torch.zeros_like(made.interior))
    found = decoder_terms(empty, BALL, draws(), ALL, SCALE)
    assert found["chamfer"].item() == 0.0
    found["sign"].backward()
    assert features.grad is not None and features.grad[:, :8].sum() > 0


def test_points_on_the_true_surface() -> None:
    points = true_points(BALL, draws().true.float())
    assert points.dtype == torch.float32
    assert points.norm(dim=1).mean().item() == pytest.approx(RADIUS, abs=0.001)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_stays_so_without_an_error(value: float) -> None:
    made = ball_cubes()
    made.features[5, 40] = value
    found = terms(made)
    assert set(found) == set(DECODER_WEIGHTS) and not any(map(math.isfinite, found.values()))
