"""Distances between surfaces that are known by formula, and meshes that stay what they are when they get small."""

import numpy as np
import pytest
import trimesh

from sam3d_objects.arrays import AnyArray
from sam3d_objects.report.solids import scale_mm
from sam3d_objects.report.surfaces import FACES_SHOWN, Surface, compared_surfaces, decimated, signed_distance
from tests.evaluation.solids import ball_mesh


def arrays(radius_mm: float, points: int = 40) -> tuple[AnyArray, AnyArray]:
    mesh = ball_mesh(radius_mm, points=points)
    return mesh.vertices.astype(np.float32), mesh.faces.astype(np.int32)


@pytest.mark.parametrize(("predicted_mm", "truth_mm"), [(11.0, 10.0), (9.0, 10.0)])
def test_both_surfaces_say_the_same_signed_distance(predicted_mm: float, truth_mm: float) -> None:
    predicted, truth = compared_surfaces(arrays(predicted_mm), arrays(truth_mm))
    assert predicted is not None and truth is not None
    for surface in (predicted, truth):
        # The nearest vertex or face centre lies up to .2 mm beside the nearest point: sqrt(1 + .2^2) = 1.02.
        np.testing.assert_allclose(surface.distance_mm, predicted_mm - truth_mm, atol=0.05)


def test_a_shifted_sphere_is_too_much_on_one_side_and_too_little_on_the_other() -> None:
    vertices, faces = arrays(10.0)
    predicted, _ = compared_surfaces((vertices + np.array([2, 0, 0], np.float32), faces), (vertices, faces))
    assert predicted is not None
    assert predicted.distance_mm[predicted.vertices[:, 0].argmax()] == pytest.approx(2.0, abs=0.05)
    assert predicted.distance_mm[predicted.vertices[:, 0].argmin()] == pytest.approx(-2.0, abs=0.05)


def test_decimation_keeps_the_surface() -> None:
    ball = ball_mesh(10.0, points=120)
    mesh = trimesh.Trimesh(ball.vertices, ball.faces, process=False)
    assert len(mesh.faces) > 4 * FACES_SHOWN
    small = decimated(mesh, FACES_SHOWN)
    assert FACES_SHOWN / 3 < len(small.faces) <= FACES_SHOWN
    assert small.is_watertight and small.volume == pytest.approx(mesh.volume, rel=0.01)
    assert np.abs(signed_distance(np.asarray(small.vertices), mesh)).max() < 0.3
    assert decimated(small, FACES_SHOWN) is small


def test_what_cannot_be_drawn_is_left_out() -> None:
    vertices, faces = arrays(10.0, 16)
    broken = vertices.copy()
    broken[0] = np.nan
    empty = np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32)
    for nothing in ((broken, faces), empty, None):
        predicted, truth = compared_surfaces(nothing, (vertices, faces))
        assert predicted is None and truth is not None and np.isnan(truth.distance_mm).all()
    assert compared_surfaces(None, None) == (None, None)


def test_one_scale_serves_the_middle_case() -> None:
    def surface(reach_mm: float) -> Surface:
        return Surface(np.zeros((100, 3)), np.zeros((0, 3), np.int64), np.full(100, reach_mm))

    assert scale_mm([surface(0.1)]) == 2.0
    assert scale_mm([surface(1.0), surface(-4.2), surface(90.0)]) == 5.0
    assert scale_mm([surface(90.0)]) == 10.0
    assert scale_mm([surface(np.nan)]) == 2.0
