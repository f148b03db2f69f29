"""Sampling: uniform over the area, on the surface, and the same for the same generator."""

import numpy as np
import pytest

from sam3d_objects.mesh import Mesh, sample_surface, surface_distance
from tests.mesh.shapes import box


def test_points_fall_on_faces_in_proportion_to_their_area() -> None:
    count = 30_000
    _, _, faces = sample_surface(box((0, 0, 0), (1, 2, 4)), count, np.random.default_rng(0))
    share = np.bincount(faces, minlength=12) / count
    area = np.linalg.norm(box((0, 0, 0), (1, 2, 4)).cross, axis=1) / 2
    expected = area / area.sum()
    assert (np.abs(share - expected) < 5 * np.sqrt(expected * (1 - expected) / count)).all()


def test_points_are_uniform_within_a_triangle() -> None:
    triangle = Mesh(np.array([[0, 0, 0], [3, 0, 0], [0, 3, 0]]), np.array([[0, 1, 2]]))
    points, _, _ = sample_surface(triangle, 30_000, np.random.default_rng(1))
    np.testing.assert_allclose(points.mean(axis=0), [1, 1, 0], atol=0.03)
    corner = (
        points[:, :2].sum(axis=1) < 1.5
    ).mean()  # the triangle of half the sides has a quarter of the area
    assert corner == pytest.approx(0.25, abs=0.015)


def test_points_lie_on_the_surface_with_the_normals_of_their_faces() -> None:
    mesh = box((-1, -1, -1), (1, 1, 1))
    points, normals, faces = sample_surface(mesh, 300, np.random.default_rng(2))
    assert surface_distance(mesh, points).max() < 1e-12
    np.testing.assert_allclose((points * normals).sum(axis=1), 1)  # each face is one away from the middle
    np.testing.assert_allclose(
        normals, mesh.cross[faces] / np.linalg.norm(mesh.cross[faces], axis=1)[:, None]
    )


def test_the_same_generator_gives_the_same_points_and_none_is_allowed() -> None:
    mesh = box((0, 0, 0), (1, 1, 1))
    first, second = (sample_surface(mesh, 50, np.random.default_rng(7))[0] for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert sample_surface(mesh, 0, np.random.default_rng(0))[0].shape == (0, 3)


def test_faces_without_area_are_never_drawn_and_no_area_is_an_error() -> None:
    points = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [2, 0, 0]])
    mesh = Mesh(points, np.array([[0, 1, 3], [0, 1, 2], [3, 1, 0]]))
    assert set(sample_surface(mesh, 500, np.random.default_rng(0))[2].tolist()) == {1}
    with pytest.raises(ValueError, match="without area"):
        sample_surface(Mesh(points, np.array([[0, 1, 3]])), 5, np.random.default_rng(0))
    with pytest.raises(ValueError, match="at least 0 points"):
        sample_surface(mesh, -1, np.random.default_rng(0))
