"""Point scores by hand and by formula, and the low ceiling that the protocol has."""

import math

import numpy as np
import pytest

from sam3d_objects.evaluation.protocols import point_metrics
from sam3d_objects.evaluation.protocols.point_metrics import (
    CELLS,
    POINT_METRICS,
    POINTS,
    cell_overlap,
    earth_movers_distance,
    f1_score,
    normalised,
    point_scores,
    surface_cloud,
)
from sam3d_objects.mesh import Mesh
from tests.evaluation.solids import ball_mesh, box_mesh


def test_a_cloud_is_centred_and_reaches_one() -> None:
    points = np.array([[1.0, 0, 0], [5, 0, 0], [3, 1, 0], [3, -1, 0]])
    assert normalised(points) == pytest.approx(np.array([[-1, 0, 0], [1, 0, 0], [0, 0.5, 0], [0, -0.5, 0]]))
    assert normalised(7 * points + 100) == pytest.approx(normalised(points)), "place and size are taken out"


def test_a_cloud_without_an_extent_is_an_error() -> None:
    with pytest.raises(ValueError, match="extent"):
        normalised(np.ones((4, 3)))


def test_a_mesh_without_area_has_no_cloud() -> None:
    with pytest.raises(ValueError, match="without area"):
        surface_cloud(Mesh(np.zeros((3, 3)), np.array([[0, 1, 2]])), np.random.default_rng(0))


def test_f1_by_hand() -> None:
    truth = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    predicted = np.array([[0.005, 0, 0], [1, 0.02, 0]])
    # One of two predicted points, one of four true ones: 2 (1/2)(1/4) / (3/4).
    assert f1_score(predicted, truth) == pytest.approx(1 / 3)
    assert f1_score(predicted, truth, 0.03) == pytest.approx(2 * 1 * 0.5 / 1.5)
    assert f1_score(predicted + 9, truth) == 0.0
    assert f1_score(truth, truth) == 1.0


def test_cells_by_hand() -> None:
    half = 1 / CELLS  # of a cell's side
    truth = np.array([[-1 + half, half, half], [half, half, half], [half, half, 1 - half]])
    predicted = np.array([[half, half, half], [1.5 * half, half, half], [half, half, 1 + half]])
    # The middle cell is shared; the last point lies in a cell beyond the cube, not in the last one within.
    assert cell_overlap(predicted, truth) == pytest.approx((1 / 4, 2 / 5))
    assert cell_overlap(truth, truth) == (1.0, 1.0)


def test_earth_movers_distance_takes_each_point_once() -> None:
    truth = np.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 0]])
    assert earth_movers_distance(truth[[2, 0, 1]], truth) == 0
    # All three lie on the first: its neighbours have to be reached, though each is nearest to the first.
    assert earth_movers_distance(truth[[0, 0, 0]], truth) == pytest.approx(1.0)


def test_earth_movers_distance_is_no_more_than_any_assignment() -> None:
    generator = np.random.default_rng(0)
    predicted, truth = generator.normal(size=(2, 6, 3))
    orders = [generator.permutation(6) for _ in range(300)]
    tried = min(float(np.linalg.norm(predicted - truth[order], axis=1).mean()) for order in orders)
    assert earth_movers_distance(predicted, truth) <= tried + 1e-12


def test_two_samplings_of_a_sphere_have_a_low_ceiling() -> None:
    """F1 about .21 and "Dice" about .50; of F1 there is a formula.

    10,000 points on the unit sphere: another sampling has one within .01 with probability 1 - exp(-10,000 pi .01^2 /
    4 pi) = .22.
    """
    generator = np.random.default_rng(0)
    first, second = (surface_cloud(ball_mesh(25.0), generator) for _ in range(2))
    found = point_scores(first, second, generator)
    assert found["f1"] == pytest.approx(1 - math.exp(-POINTS * math.pi * 0.01**2 / (4 * math.pi)), abs=0.02)
    assert found["f1"] == pytest.approx(0.21, abs=0.02)
    assert found["voxel_dice"] == pytest.approx(0.50, abs=0.03)
    assert found["voxel_iou"] == pytest.approx(found["voxel_dice"] / (2 - found["voxel_dice"]))
    # Mean distance to the nearest of points scattered with density d: 1 / (2 sqrt(d)), twice.
    assert found["chamfer"] == pytest.approx(1 / math.sqrt(POINTS / (4 * math.pi)), rel=0.05)
    assert 0.05 < found["emd"] < 0.10


class TestWithFewPoints:
    @pytest.fixture(autouse=True)
    def few(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(point_metrics, "POINTS", 2000)
        monkeypatch.setattr(point_metrics, "EMD_POINTS", 200)

    def between(self, first: Mesh, second: Mesh) -> dict[str, float]:
        generator = np.random.default_rng(0)
        return point_scores(surface_cloud(first, generator), surface_cloud(second, generator), generator)

    def test_place_and_size_count_for_nothing(self) -> None:
        ball = ball_mesh(10.0)
        moved = Mesh(3 * ball.vertices + 50, ball.faces)
        assert self.between(moved, ball) == pytest.approx(self.between(ball, ball))

    def test_another_shape_scores_worse_in_every_metric(self) -> None:
        box = box_mesh((0, 0, 0), (4, 7, 10))
        same, other = self.between(box, box), self.between(ball_mesh(10.0), box)
        for name, metric in POINT_METRICS.items():
            assert (same[name] > other[name]) == metric.higher_is_better, name

    def test_a_clouds_points_are_all_the_points(self) -> None:
        assert surface_cloud(ball_mesh(10.0), np.random.default_rng(0)).shape == (2000, 3)


def test_no_success_scores_worse_than_a_failure() -> None:
    for metric in POINT_METRICS.values():
        terrible = -1.0 if metric.higher_is_better else 1e9
        assert metric.capped(terrible) == metric.worst
        assert metric.capped(0.1) == 0.1
    # Two clouds in opposite corners of the cube: no pair in it is further apart.
    assert POINT_METRICS["emd"].worst == pytest.approx(math.dist((-1, -1, -1), (1, 1, 1)))
