"""Metrics on masks whose every figure can be worked by hand."""

import numpy as np
import pytest

from sam3d_objects.evaluation import METRICS, compare_masks
from sam3d_objects.evaluation.metrics import (
    SurfaceDistances,
    assd_mm,
    chamfer_mm,
    dice,
    hausdorff_mm,
    iou,
    slice_dice,
    surface_dice,
    volume_error_ml,
    volume_error_percent,
)
from tests.evaluation.solids import ball_mask, grid


def voxels(*indices: tuple[int, int, int]) -> np.ndarray:
    mask = np.zeros((8, 8, 8), dtype=bool)
    for index in indices:
        mask[index] = True
    return mask


def slab(first: int, last: int) -> np.ndarray:
    mask = np.zeros((20, 20, 20), dtype=bool)
    mask[first : last + 1] = True
    return mask


def test_equal_masks() -> None:
    mask = voxels((3, 3, 3), (3, 3, 4))
    same = compare_masks(mask, mask, np.eye(4))
    assert dice(same) == iou(same) == surface_dice(same, 0.0) == 1.0
    assert hausdorff_mm(same) == assd_mm(same) == volume_error_percent(same) == 0.0


def test_overlaps_and_volumes() -> None:
    prediction = voxels((1, 1, 1), (1, 1, 2), (1, 1, 3))
    pair = compare_masks(prediction, voxels((1, 1, 3), (1, 1, 4)), np.diag([2.0, 5.0, 10.0, 1.0]))
    assert dice(pair) == pytest.approx(2 / 5)
    assert iou(pair) == pytest.approx(1 / 4)
    assert volume_error_percent(pair) == pytest.approx(50.0)
    assert volume_error_ml(pair) == pytest.approx(0.1)  # one voxel of 100 mm3 too many


@pytest.mark.parametrize(("axis", "distance_mm"), [(0, 2 * 0.5), (1, 2 * 2.0), (2, 2 * 3.0)])
def test_single_voxels_two_apart_along_each_axis(axis: int, distance_mm: float) -> None:
    other = [2, 2, 2]
    other[axis] += 2
    pair = compare_masks(voxels((2, 2, 2)), voxels((other[0], other[1], other[2])), np.diag([0.5, 2.0, 3.0, 1.0]))
    # Half of the area (the corners that face the other voxel) is one voxel nearer than the other half.
    assert hausdorff_mm(pair) == pytest.approx(distance_mm)
    assert assd_mm(pair) == pytest.approx(0.75 * distance_mm)
    assert surface_dice(pair, 0.51 * distance_mm) == pytest.approx(0.5)
    assert surface_dice(pair, distance_mm) == 1.0
    assert dice(pair) == 0.0


def test_parallel_slabs() -> None:
    # 8 thick against 6 thick, one face shared: the other faces are 2 mm apart.
    pair = compare_masks(slab(5, 12), slab(5, 10), np.eye(4))
    assert dice(pair) == pytest.approx(2 * 6 / 14)
    assert hausdorff_mm(pair) == pytest.approx(2.0)
    assert surface_dice(pair, 2.0) == 1.0
    # Beyond 1 mm: the whole far face of the thicker one, and that of the other but for its two outer rings, which lie
    # on the thicker one's sides or beside them.
    edge, corner = np.sqrt(0.5), np.sqrt(3) / 8
    area = sum(2 * 19**2 + 4 * 19 * (t - 1) + (8 * 19 + 4 * (t - 1)) * edge + 8 * corner for t in (8, 6))
    beyond = 19**2 + 4 * 19 * edge + 4 * corner + 17**2
    assert surface_dice(pair, 1.0) == pytest.approx(1 - beyond / area)
    assert surface_dice(pair, 1.99) == surface_dice(pair, 1.0)


def test_nested_cubes() -> None:
    outer, inner = np.zeros((30,) * 3, dtype=bool), np.zeros((30,) * 3, dtype=bool)
    outer[5:25, 5:25, 5:25] = True
    inner[8:22, 8:22, 8:22] = True
    pair = compare_masks(outer, inner, np.eye(4))
    assert dice(pair) == pytest.approx(2 * 14**3 / (20**3 + 14**3))
    # From the inner cube every point is 3 mm from the outer one; from the outer one, edges and corners are further.
    assert pair.truth_surface.distances_mm == pytest.approx(3.0)
    assert pair.prediction_surface.distances_mm.max() == pytest.approx(3 * np.sqrt(3))
    assert pair.prediction_surface.percentile_mm(50) == pytest.approx(3.0)


def test_concentric_balls_within_the_discretisation() -> None:
    affine = grid(48)
    pair = compare_masks(ball_mask(18.0, 48, affine), ball_mask(14.0, 48, affine), affine)
    assert volume_error_percent(pair) == pytest.approx(100 * ((18 / 14) ** 3 - 1), abs=2)
    assert 3.4 < assd_mm(pair) < 4.0  # elements lie up to 0.87 voxel off the sphere, and the nearest one counts
    assert hausdorff_mm(pair) == pytest.approx(4.0, abs=0.75)
    assert surface_dice(pair, 2.0) == 0.0
    assert surface_dice(pair, 5.0) == 1.0


def test_the_95th_percentile_is_weighted_by_area() -> None:
    few_large = SurfaceDistances(np.array([9.0, 1.0, 2.0]), np.array([1.0, 90.0, 9.0]))
    assert few_large.percentile_mm(95) == 2.0
    assert few_large.percentile_mm(90) == 1.0
    assert few_large.percentile_mm(100) == 9.0


@pytest.mark.parametrize("which", ["prediction", "truth"])
def test_one_empty_mask(which: str) -> None:
    full, empty = voxels((2, 2, 2)), voxels()
    pair = compare_masks(empty, full, np.eye(4)) if which == "prediction" else compare_masks(full, empty, np.eye(4))
    assert dice(pair) == iou(pair) == surface_dice(pair, 100.0) == 0.0
    assert hausdorff_mm(pair) == assd_mm(pair) == float("inf")
    assert volume_error_percent(pair) == (100.0 if which == "prediction" else float("inf"))


def test_both_empty_is_no_number() -> None:
    pair = compare_masks(voxels(), voxels(), np.eye(4))
    functions = (dice, iou, hausdorff_mm, assd_mm, volume_error_percent, chamfer_mm, slice_dice)
    assert all(np.isnan(function(pair)) for function in functions)
    assert np.isnan(surface_dice(pair, 1.0))


def test_masks_of_two_shapes_are_an_error() -> None:
    with pytest.raises(ValueError, match="one shape"):
        compare_masks(np.ones((2, 2, 2), dtype=bool), np.ones((2, 2, 3), dtype=bool), np.eye(4))


def test_a_failed_case_scores_the_worst_and_nothing_is_capped_below_it() -> None:
    worst = {name: metric.worst(80.0, 7.0) for name, metric in METRICS.items()}
    assert worst["dice"] == worst["slice_dice"] == worst["surface_dice_2mm"] == 0.0
    assert worst["hd95_mm"] == worst["assd_mm"] == worst["chamfer_mm"] == 80.0
    assert worst["volume_error_percent"] == 100.0 and worst["volume_error_ml"] == 7.0
    assert METRICS["volume_error_ml"].capped(9.0, 80.0, 7.0) == 7.0
    assert METRICS["hd95_mm"].capped(500.0, 80.0, 7.0) == 80.0
    assert METRICS["hd95_mm"].capped(5.0, 80.0, 7.0) == 5.0
    assert METRICS["volume_error_percent"].capped(400.0, 80.0, 7.0) == 100.0
    assert METRICS["dice"].capped(0.3, 80.0, 7.0) == 0.3
