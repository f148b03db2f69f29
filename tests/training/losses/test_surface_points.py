"""Points on a surface: where the formula puts them, how they spread, and how they follow the vertices."""

import numpy as np
import pytest
import torch

from sam3d_objects.training.losses import sample_surface
from tests.mesh.shapes import box

# Two triangles in the plane z = 0, with areas 1/2 and 3/2.
VERTICES = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [-3, 0, 0]], dtype=torch.float64)
FACES = torch.tensor([[0, 1, 2], [0, 2, 3]])


def uniforms(count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_by_hand() -> None:
    drawn = torch.tensor([[0.2, 0.25, 0.5], [0.3, 0.0, 0.9], [0.99, 0.81, 0.0]], dtype=torch.float64)
    points = sample_surface(VERTICES, FACES, drawn)
    # First triangle, r = 1/2: weights 1/2, 1/4, 1/4. Second, r = 0: its first corner; r = 0.9: 0.1 and 0.9 of a and b.
    assert torch.allclose(points, torch.tensor([[0.25, 0.25, 0], [0, 0, 0], [0, 0.9, 0]], dtype=torch.float64))


def test_points_spread_by_area_and_lie_on_the_surface() -> None:
    high = (0.5, 0.25, 0.1)
    mesh = box((-0.5, -0.25, -0.1), high)
    points = sample_surface(torch.from_numpy(mesh.vertices), torch.from_numpy(mesh.faces), uniforms(20_000)).numpy()
    at_side = np.isclose(np.abs(points), np.array(high), atol=1e-12)
    assert at_side.any(axis=1).all()
    shares = np.array([0.5 * 0.2, 1.0 * 0.2, 1.0 * 0.5]) / 0.8
    assert at_side.mean(axis=0) == pytest.approx(shares, abs=0.01)
    # On its own sides a coordinate is at its end, elsewhere uniform.
    assert np.abs(points).mean(axis=0) == pytest.approx(shares * high + (1 - shares) * np.array(high) / 2, abs=0.005)


def test_the_gradient_is_finite_differences() -> None:
    drawn = uniforms(6)
    vertices = (VERTICES + 0.1 * uniforms(4, 1)).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: sample_surface(v, FACES, drawn), (vertices,))


def test_a_moved_surface_moves_its_points() -> None:
    vertices = VERTICES.clone().requires_grad_()
    sample_surface(vertices, FACES, uniforms(40)).sum().backward()
    assert vertices.grad is not None
    assert torch.allclose(vertices.grad.sum(dim=0), torch.full((3,), 40.0, dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_faces_without_area_get_no_point(dtype: torch.dtype) -> None:
    faces = torch.cat([torch.tensor([[1, 1, 2]]), FACES, torch.tensor([[3, 3, 3]])])
    drawn = uniforms(100)
    drawn[0, 0], drawn[1, 0] = 0.0, 1.0  # 1 is what rounding to another dtype can make of a number below it
    found = sample_surface(VERTICES.to(dtype), faces, drawn)
    assert torch.allclose(found, sample_surface(VERTICES.to(dtype), FACES, drawn))


def test_a_surface_without_area_is_refused() -> None:
    for faces in (FACES[:0], torch.tensor([[0, 0, 1]])):
        with pytest.raises(ValueError, match=f"a mesh of {len(faces)} faces with area 0 has no points"):
            sample_surface(VERTICES, faces, uniforms(3))
    with pytest.raises(ValueError, match="area nan"):
        sample_surface(VERTICES * torch.nan, FACES, uniforms(3))
