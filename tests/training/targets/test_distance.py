"""Surface distance against what can be worked by hand."""

import numpy as np
import pytest

from sam3d_objects.mesh import Mesh
from sam3d_objects.training.targets import SurfaceDistance, distance_between
from tests.training.targets.solids import ellipsoid


def squares(*heights: float) -> Mesh:
    """Unit squares parallel to the ground, open."""
    corners = np.array([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
    vertices = np.concatenate([corners + np.array([0, 0, height]) for height in heights])
    faces = np.concatenate([np.array([[0, 1, 2], [0, 2, 3]]) + 4 * i for i in range(len(heights))])
    return Mesh(vertices, faces)


def test_parallel_squares_are_their_gap_apart() -> None:
    distance = distance_between(squares(0.0), squares(0.25))
    assert distance.mean == pytest.approx(0.25, abs=1e-12) and distance.p95 == pytest.approx(0.25, abs=1e-12)


def test_each_surface_counts_by_its_area_and_the_worse_way_gives_the_percentile() -> None:
    # One way 0.1 over an area of 1; back 0.1 and 0.3 over an area of 1 each: (0.1 + 0.1 + 0.3) / 3.
    distance = distance_between(squares(0.0), squares(0.1, 0.3))
    assert distance.mean == pytest.approx(0.5 / 3, rel=0.03)
    assert distance.p95 == pytest.approx(0.3)
    back = distance_between(squares(0.1, 0.3), squares(0.0))
    assert back.mean == pytest.approx(distance.mean) and back.p95 == distance.p95


def test_a_surface_is_at_itself_and_nothing_is_infinitely_far() -> None:
    ball, nothing = ellipsoid(0.4, 0.4, 0.4), Mesh(np.zeros((0, 3)), np.zeros((0, 3), dtype=np.int64))
    assert distance_between(ball, ball).p95 == pytest.approx(0.0, abs=1e-9)
    assert distance_between(ball, nothing) == distance_between(nothing, ball) == SurfaceDistance(np.inf, np.inf)


def test_spheres_and_another_unit() -> None:
    distance = distance_between(ellipsoid(0.4, 0.4, 0.4), ellipsoid(0.45, 0.45, 0.45))
    assert distance.mean == pytest.approx(0.05, abs=1e-3)
    assert distance.scaled(40.0) == SurfaceDistance(40 * distance.mean, 40 * distance.p95)
