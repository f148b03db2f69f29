"""What a shell encloses is inside: one surface instead of two, and no way in through a hole of the wall."""

import pytest
import torch
from torch import Tensor

from sam3d_objects.model.flexicubes import surface_from_features
from sam3d_objects.model.flexicubes.interior import Interior

SIDE, FACTOR = 12, 4
RESOLUTION = SIDE * FACTOR
# Deep enough that some interior voxels have none but interior neighbours.
RADIUS = 0.42


def ball_shell() -> tuple[Tensor, Tensor, Tensor]:
    """Fine cubes (N, 3) of the voxels that a sphere passes, their distances as features (N, 53), what is inside."""
    axis = (torch.arange(SIDE) + 0.5) / SIDE - 0.5
    radius = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij")).norm(dim=0)
    half_diagonal = 3**0.5 / 2 / SIDE
    shell = (radius - RADIUS).abs() <= half_diagonal
    steps = torch.arange(FACTOR)
    cubes = (torch.argwhere(shell)[:, None] * FACTOR + torch.cartesian_prod(steps, steps, steps)).flatten(0, 1)
    # Corner c is (c & 1, c >> 1 & 1, c >> 2).
    corners = torch.tensor([[c & 1, c >> 1 & 1, c >> 2] for c in range(8)])
    points = (cubes[:, None] + corners) / RESOLUTION - 0.5
    features = torch.zeros(len(cubes), 53)
    features[:, :8] = points.norm(dim=-1) - RADIUS + 1 / RESOLUTION
    return cubes, features, (radius < RADIUS) & ~shell


def volume(vertices: Tensor, faces: Tensor) -> float:
    a, b, c = vertices[faces].unbind(1)
    return float((a * torch.linalg.cross(b, c)).sum() / 6)


def is_closed(faces: Tensor) -> bool:
    edges = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    forward, backward = edges[:, 0] * 10**6 + edges[:, 1], edges[:, 1] * 10**6 + edges[:, 0]
    return torch.equal(forward.sort().values, backward.sort().values)


def test_the_shell_has_its_outer_surface_alone() -> None:
    cubes, features, interior = ball_shell()
    assert Interior(interior, RESOLUTION).deep().any()
    solid, _ = surface_from_features(features, cubes, RESOLUTION, interior=interior)
    hollow, _ = surface_from_features(features, cubes, RESOLUTION)
    exact = 4 / 3 * torch.pi * RADIUS**3
    assert is_closed(solid.faces) and is_closed(hollow.faces)
    assert volume(solid.vertices, solid.faces) == pytest.approx(exact, rel=0.01)
    assert volume(hollow.vertices, hollow.faces) < 0.9 * exact
    radii = solid.vertices[solid.faces.unique()].norm(dim=1)
    assert float((radii - RADIUS).abs().max()) < 0.1 / RESOLUTION
    # The outer surface is the one that the released way makes, too.
    outer = hollow.vertices[hollow.vertices.norm(dim=1) > RADIUS - 0.5 / RESOLUTION]
    assert torch.allclose(outer, solid.vertices[solid.faces.unique()], atol=1e-6)


def test_a_hole_in_the_wall_is_closed_at_the_interior() -> None:
    cubes, features, interior = ball_shell()
    hole = (cubes // FACTOR == torch.argwhere(interior).amax(0)).sum(1) >= 2
    assert hole.any()
    features[hole, :8] = 0.5  # the decoder says: outside, through the whole wall
    solid, _ = surface_from_features(features, cubes, RESOLUTION, interior=interior)
    assert is_closed(solid.faces)
    assert volume(solid.vertices, solid.faces) > 0.8 * 4 / 3 * torch.pi * RADIUS**3


def test_a_solid_that_fills_the_grid_is_closed_at_its_border() -> None:
    steps = torch.arange(RESOLUTION)
    cubes = torch.cartesian_prod(steps, steps, steps)
    features = torch.full((len(cubes), 53), 0.0)
    features[:, :8] = -0.5
    full = torch.zeros(SIDE, SIDE, SIDE, dtype=torch.bool)
    assert len(surface_from_features(features, cubes, RESOLUTION)[0].faces) == 0
    solid, _ = surface_from_features(features, cubes, RESOLUTION, interior=full)
    assert is_closed(solid.faces)
    assert 0.9 < volume(solid.vertices, solid.faces) < 1.0


def test_nothing_inside_changes_nothing() -> None:
    cubes, features, interior = ball_shell()
    plain, _ = surface_from_features(features, cubes, RESOLUTION)
    none, _ = surface_from_features(features, cubes, RESOLUTION, interior=torch.zeros_like(interior))
    assert torch.equal(plain.vertices, none.vertices) and torch.equal(plain.faces, none.faces)


def test_a_grid_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match=r"interior: expected \(r, r, r\)"):
        Interior(torch.zeros(5, 5, 5, dtype=torch.bool), RESOLUTION)
