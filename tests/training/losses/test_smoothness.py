"""Regularisers of a surface: numbers worked by hand, what they leave alone, and gradients."""

import math

import pytest
import torch
from torch import Tensor

from sam3d_objects.training.losses import edge_length, laplacian, normal_consistency
from tests.mesh.shapes import box

TERMS = (edge_length, laplacian, normal_consistency)


def tetrahedron() -> tuple[Tensor, Tensor]:
    """Corners of a cube of side 2, every other one: regular, edges of length sqrt(8)."""
    vertices = torch.tensor([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], dtype=torch.float64)
    return vertices, torch.tensor([[0, 1, 2], [0, 2, 3], [0, 3, 1], [1, 3, 2]])


def folded(degrees: float) -> tuple[Tensor, Tensor]:
    """Two triangles at the edge from the origin along x; the second is turned down by an angle."""
    turn = math.radians(degrees)
    far = [0.0, -math.cos(turn), -math.sin(turn)]
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], far], dtype=torch.float64)
    return vertices, torch.tensor([[0, 1, 2], [1, 0, 3]])


def test_a_regular_tetrahedron() -> None:
    vertices, faces = tetrahedron()
    assert edge_length(vertices, faces).item() == pytest.approx(8)
    # The three others' mean is minus a third of a corner: 4/3 of its length sqrt(3) away.
    assert laplacian(vertices, faces).item() == pytest.approx(16 / 9 * 3)
    # Outward normals of a regular tetrahedron have the cosine -1/3.
    assert normal_consistency(vertices, faces).item() == pytest.approx(4 / 3)


@pytest.mark.parametrize(("degrees", "expected"), [(0, 0.0), (60, 0.5), (90, 1.0), (180, 2.0)])
def test_a_fold(degrees: float, expected: float) -> None:
    assert normal_consistency(*folded(degrees)).item() == pytest.approx(expected, abs=1e-12)


def test_each_edge_counts_once() -> None:
    vertices, faces = folded(0)
    # Lengths squared: the shared edge 1, two of 1 and two of 2.
    assert edge_length(vertices, faces).item() == pytest.approx((1 + 1 + 1 + 2 + 2) / 5)
    mesh = box((-1, -1, -1), (1, 1, 1))
    sides = torch.from_numpy(mesh.vertices), torch.from_numpy(mesh.faces)
    assert edge_length(*sides).item() == pytest.approx((12 * 4 + 6 * 8) / 18)
    # 12 of the 18 edges are folded by 90 degrees, the diagonals are flat.
    assert normal_consistency(*sides).item() == pytest.approx(12 / 18)


def test_the_middle_of_a_flat_fan_is_where_its_neighbours_are() -> None:
    angles = torch.arange(6, dtype=torch.float64) * math.pi / 3
    ring = torch.stack([angles.cos(), angles.sin(), torch.zeros(6, dtype=torch.float64)], dim=1)
    vertices = torch.cat([torch.zeros(1, 3, dtype=torch.float64), ring, torch.full((1, 3), 9.0, dtype=torch.float64)])
    faces = torch.tensor([[0, 1 + k, 1 + (k + 1) % 6] for k in range(6)])
    # On the ring, two neighbours on it and the centre have the mean 1/3 of the vertex. No face uses the last vertex.
    assert laplacian(vertices, faces).item() == pytest.approx(6 * (2 / 3) ** 2 / 7)
    assert normal_consistency(vertices, faces).item() == pytest.approx(0, abs=1e-12)
    moved = vertices.clone()
    moved[0, 2] = 1
    assert laplacian(moved, faces).item() > laplacian(vertices, faces).item()


def test_faces_without_area_have_no_normal() -> None:
    vertices, faces = folded(90)
    vertices = vertices.requires_grad_()
    loss = normal_consistency(vertices, torch.cat([faces, torch.tensor([[0, 2, 2], [1, 1, 1]])]))
    loss.backward()
    assert loss.item() == pytest.approx(1)
    assert vertices.grad is not None and torch.isfinite(vertices.grad).all()


@pytest.mark.parametrize("term", TERMS, ids=lambda term: term.__name__)
def test_gradients_are_finite_differences(term: object) -> None:
    assert callable(term)
    vertices, faces = tetrahedron()
    noise = torch.randn(vertices.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda v: term(v, faces), ((vertices + 0.2 * noise).requires_grad_(),))


@pytest.mark.parametrize("term", TERMS, ids=lambda term: term.__name__)
def test_a_mesh_without_faces_costs_nothing(term: object) -> None:
    assert callable(term)
    for count in (0, 4):
        vertices = torch.zeros(count, 3, requires_grad=True)
        loss = term(vertices, torch.zeros(0, 3, dtype=torch.int64))
        loss.backward()
        assert loss.item() == 0.0
