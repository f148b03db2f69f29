"""Shape only: what is left of a prediction without its place and its size."""

import numpy as np
import pytest

from sam3d_objects.evaluation import METRICS, compare, compare_masks
from sam3d_objects.evaluation.shape_only import moments, without_place_and_size
from sam3d_objects.mesh import Mesh
from tests.evaluation.solids import ball_mesh, ball_truth, box_mesh, middle_slice

SHAPE = ("shape_dice", "shape_hd95_mm", "shape_assd_mm")


def test_moments_by_hand() -> None:
    volume, center = moments(box_mesh((1.0, 2.0, 3.0), (3.0, 5.0, 7.0)))
    assert volume == pytest.approx(24) and center == pytest.approx([2.0, 3.5, 5.0])
    # A tetrahedron on three unit axes, far from the origin.
    corner = np.array([1000.0, -2000.0, 500.0])
    corners = np.concatenate([np.zeros((1, 3)), np.eye(3)]) + corner
    volume, center = moments(Mesh(corners, np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])))
    assert volume == pytest.approx(1 / 6) and center == pytest.approx(corner + 0.25)
    with pytest.raises(ValueError, match="no volume"):
        moments(Mesh(np.eye(3), np.array([[0, 1, 2], [0, 2, 1]])))


def test_centroid_and_volume_become_those_of_the_truth() -> None:
    truth = box_mesh((0.0, 0.0, 0.0), (4.0, 4.0, 4.0))
    moved = without_place_and_size(box_mesh((100.0, 0.0, 0.0), (101.0, 2.0, 0.5)), truth)
    assert moved.volume == pytest.approx(64) and np.ptp(moved.bounds, axis=0) == pytest.approx([4.0, 8.0, 2.0])
    assert moved.bounds.mean(axis=0) == pytest.approx([2.0, 2.0, 2.0])


def test_place_and_size_do_not_matter_and_the_other_metrics_keep_them() -> None:
    truth = ball_truth()
    comparison = compare(ball_mesh(4.0, (40.0, -3.0, 8.0)), truth, middle_slice(truth))
    scores = {name: metric.of(comparison) for name, metric in METRICS.items()}
    assert scores["shape_dice"] > 0.995 and scores["shape_hd95_mm"] <= 1.0 and scores["shape_assd_mm"] < 0.05
    assert scores["dice"] == 0.0 and scores["hd95_mm"] > 30 and scores["volume_error_percent"] > 90


def test_another_shape_is_still_another_shape() -> None:
    truth = ball_truth()
    half = np.cbrt(4 / 3 * np.pi) * 10 / 2  # a cube with the ball's volume: only their corners differ
    cube = compare(box_mesh((30.0, 30.0, 30.0), (30 + half, 30 + half, 30 + half)), truth)
    # Of 4 10^6 random points, those in both make a Dice of .8415.
    assert METRICS["shape_dice"].of(cube) == pytest.approx(0.8415, abs=0.01)


def test_they_are_marked() -> None:
    assert tuple(name for name, metric in METRICS.items() if metric.shape_only) == SHAPE
    assert all(METRICS[name].title.startswith("Shape-only ") for name in SHAPE)
    assert list(METRICS)[-3:] == list(SHAPE)


def test_masks_have_no_shape_metric() -> None:
    mask = np.ones((2, 2, 2), dtype=bool)
    assert all(np.isnan(METRICS[name].of(compare_masks(mask, mask, np.eye(4)))) for name in SHAPE)


def test_a_needle_is_scored_but_its_shape_is_the_worst(monkeypatch: pytest.MonkeyPatch) -> None:
    """As voluminous as the ball it is some metres long, and its box has more voxels than are scored."""
    truth = ball_truth()
    monkeypatch.setattr("sam3d_objects.evaluation.rasterise.MAX_BOX_VOXELS", 1 << 16)
    needle = compare(box_mesh((0.499, 0.499, -50.0), (0.501, 0.501, 50.0)), truth)
    assert 0 < METRICS["dice"].of(needle) < 0.01
    assert METRICS["shape_dice"].of(needle) == 0.0
    assert METRICS["shape_hd95_mm"].of(needle) == METRICS["shape_assd_mm"].of(needle) == truth.diagonal_mm


def test_a_truth_larger_than_the_limit_is_scored_with_what_is_about_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    truth = ball_truth()
    monkeypatch.setattr("sam3d_objects.evaluation.rasterise.MAX_BOX_VOXELS", truth.box.mask.size // 2)
    assert METRICS["dice"].of(compare(truth.mesh, truth)) > 0.95
    with pytest.raises(ValueError, match=f"more than {4 * truth.box.mask.size} are not scored"):
        compare(Mesh(truth.mesh.vertices * 2, truth.mesh.faces), truth)


def test_a_vertex_that_no_face_uses_does_not_count() -> None:
    ball = ball_mesh(10.0)
    stray = Mesh(np.vstack([ball.vertices, [[1e9, -1e9, 1e9]]]), ball.faces)
    assert stray.volume == ball.volume  # to the last bit, and not less the digits that 1e9 takes
    assert moments(stray)[1] == pytest.approx([0.0] * 3, abs=1e-6)
    shape = compare(stray, ball_truth()).shape
    assert shape is not None and METRICS["dice"].of(shape) > 0.99
    with pytest.raises(ValueError, match="no faces"):
        moments(Mesh(ball.vertices, np.zeros((0, 3), dtype=int)))
