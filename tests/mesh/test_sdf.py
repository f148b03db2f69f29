"""Signed distance: a cube by hand, a sphere, and an independent exact distance."""

import numpy as np
import pytest
import trimesh

from sam3d_objects.mesh import Mesh, contains, inside, signed_distance, surface_distance
from tests.mesh.shapes import box, joined, rotation, sphere

EMPTY = Mesh(np.zeros((0, 3)), np.zeros((0, 3), dtype=np.int64))


def test_a_cube_has_the_distances_worked_by_hand() -> None:
    cube = box((0, 0, 0), (2, 2, 2))
    points = np.array([[1, 1, 1], [1, 1, 0.25], [1, 1, 3.5], [5, 6, 1], [-1, -2, -2], [2, 2, 2]])
    distance = signed_distance(cube, points)  # to faces, an edge (3-4-5) and a corner (1-2-2)
    np.testing.assert_allclose(np.abs(distance), [1, 0.25, 1.5, 5, 3, 0], atol=1e-12)
    assert (np.sign(distance[:5]) == [-1, -1, 1, 1, 1]).all()


def test_a_sphere_is_as_far_as_its_radius_says() -> None:
    ball = sphere(5.0, step=0.5)
    points = np.random.default_rng(0).uniform(-8, 8, (400, 3))
    np.testing.assert_allclose(signed_distance(ball, points), np.linalg.norm(points, axis=1) - 5, atol=0.025)


def test_distance_equals_an_independent_exact_one_for_triangles_of_all_sizes() -> None:
    generator = np.random.default_rng(1)
    soup = Mesh(
        np.concatenate(
            [generator.normal(0, 3, (30, 3)), generator.normal(0, 0.2, (300, 3)), np.ones((3, 3))]
        ),
        np.arange(333).reshape(-1, 3),
    )  # large triangles, small ones, and one without area
    points = generator.uniform(-5, 5, (200, 3))
    proper = Mesh(soup.vertices, soup.faces[:-1])
    nearest = trimesh.triangles.closest_point(
        np.tile(proper.triangles, (200, 1, 1)), np.repeat(points, 110, axis=0)
    )
    expected = np.linalg.norm(nearest - np.repeat(points, 110, axis=0), axis=1).reshape(200, 110).min(axis=1)
    expected = np.minimum(expected, np.linalg.norm(points - 1, axis=1))
    np.testing.assert_allclose(surface_distance(soup, points), expected, atol=1e-9)


def test_contains_agrees_with_the_grid_and_unites_overlapping_parts() -> None:
    turn = np.eye(4)
    turn[:3, :3] = rotation()
    pair = joined(box((1, 1, 1), (6, 5, 5)), box((4, 2, 2), (8, 8, 8))).transformed(turn)
    affine = turn @ np.diag([0.7, 0.7, 0.7, 1.0])
    points = np.moveaxis(np.indices((13, 13, 13)), 0, -1).reshape(-1, 3) @ affine[:3, :3].T
    filled = contains(pair, points).reshape(13, 13, 13)
    expected = inside(pair, affine, (13, 13, 13))
    assert expected.sum() > 300
    np.testing.assert_array_equal(filled, expected)


def test_open_and_empty_meshes_and_bad_points() -> None:
    cube = box((0, 0, 0), (2, 2, 2))
    opened = Mesh(cube.vertices, cube.faces[1:])
    assert surface_distance(opened, [[1.5, 1.0, 0.5]])[0] == pytest.approx(0.5)
    with pytest.raises(ValueError, match="mesh is open"):
        signed_distance(opened, np.random.default_rng(0).uniform(0, 2, (50, 3)))
    with pytest.raises(ValueError, match="empty mesh"):
        signed_distance(EMPTY, [[0, 0, 0]])
    assert not contains(EMPTY, [[0, 0, 0]]).any()
    assert signed_distance(cube, np.zeros((0, 3))).shape == (0,)
    with pytest.raises(ValueError, match=r"shape \(N, 3\)"):
        contains(cube, [0.0, 0.0, 0.0])
    with pytest.raises(ValueError, match="finite points"):
        surface_distance(cube, [[0, np.inf, 0]])
