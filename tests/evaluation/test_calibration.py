"""Calibration by hand: spheres at known distances, and spreads whose truth is known."""

from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest

from sam3d_objects.evaluation.calibration import (
    FILE,
    LEVELS,
    Calibration,
    calibration_of,
    pooled_calibration,
    reach,
    vertex_areas,
    write_calibration,
)
from sam3d_objects.files import read_json
from sam3d_objects.mesh import Mesh, surface_from_field

SIDE = 40


def sphere(radius_mm: float) -> Mesh:
    points = np.moveaxis(np.indices((SIDE,) * 3), 0, -1) - (SIDE - 1) / 2
    return surface_from_field(radius_mm - np.linalg.norm(points, axis=-1), 0.0, np.eye(4))


@pytest.fixture(scope="module")
def mesh() -> Mesh:
    return sphere(12.0)


def test_the_reach_of_a_level_is_the_normal_distributions() -> None:
    assert reach(0.6827) == pytest.approx(1, abs=1e-4)
    assert reach(0.9545) == pytest.approx(2, abs=1e-3)


def test_areas_of_vertices_are_those_of_the_faces(mesh: Mesh) -> None:
    assert vertex_areas(mesh).sum() == pytest.approx(mesh.area)
    triangle = Mesh(np.array([[0.0, 0, 0], [3, 0, 0], [0, 2, 0], [9, 9, 9]]), np.array([[0, 1, 2]]))
    np.testing.assert_allclose(vertex_areas(triangle), [1, 1, 1, 0])


def test_a_truth_at_one_spread_is_within_the_levels_above_68_percent(mesh: Mesh) -> None:
    spread = np.full(len(mesh.vertices), 2.0)
    found = calibration_of(mesh, spread, sphere(14.0))
    # A sum of areas, added up in another order by each processor.
    np.testing.assert_allclose(found.within, [float(level > 0.69) for level in LEVELS], atol=1e-12)
    assert found.n == 1 and found.spread_mm == pytest.approx(2.0)
    assert found.distance_mm == pytest.approx(2.0, abs=0.03)


def test_an_honest_spread_lies_on_the_diagonal_and_a_proud_one_below(mesh: Mesh) -> None:
    # Distance 2 everywhere, with spreads 2 / |z| for z normal: as if each place's truth had been drawn from its spread.
    normal = np.abs(np.random.default_rng(0).standard_normal(len(mesh.vertices)))
    spread = 2.0 / normal
    honest = calibration_of(mesh, spread, sphere(14.0)).within
    np.testing.assert_allclose(honest, LEVELS, atol=0.04)
    proud = calibration_of(mesh, spread / 2, sphere(14.0)).within
    halved = [2 * NormalDist().cdf(reach(level) / 2) - 1 for level in LEVELS]
    np.testing.assert_allclose(proud, halved, atol=0.04)


def test_no_spread_at_all_holds_nothing(mesh: Mesh) -> None:
    assert calibration_of(mesh, np.zeros(len(mesh.vertices)), sphere(14.0)).within == (0.0,) * len(LEVELS)


@pytest.mark.parametrize("spread", [np.ones(3), -np.ones(0), None])
def test_a_spread_that_is_none_is_refused(mesh: Mesh, spread: np.ndarray | None) -> None:
    values = np.full(len(mesh.vertices), np.nan) if spread is None else spread
    with pytest.raises(ValueError, match=r"expected a spread in mm, at least 0, for \d+ vertices"):
        calibration_of(mesh, values, mesh)


def test_predictions_are_pooled_by_their_number() -> None:
    parts = [Calibration((0.0,) * len(LEVELS), 1, 1.0, 4.0), Calibration((1.0,) * len(LEVELS), 3, 2.0, 0.0)]
    assert pooled_calibration(parts) == Calibration((0.75,) * len(LEVELS), 4, 1.75, 1.0)
    with pytest.raises(ValueError, match="no prediction came with a spread"):
        pooled_calibration([])


def test_the_file_holds_what_was_stated_and_what_was_found(mesh: Mesh, tmp_path: Path) -> None:
    write_calibration(tmp_path, calibration_of(mesh, np.ones(len(mesh.vertices)), mesh))
    written = read_json(tmp_path / FILE)
    assert written["levels"] == list(LEVELS) and written["within"] == [1.0] * len(LEVELS) and written["n"] == 1
    assert (written["spread_mm"], written["distance_mm"]) == (1.0, 0.0)
    write_calibration(tmp_path, None)  # the next evaluation in this folder states no spread
    assert not (tmp_path / FILE).exists()
