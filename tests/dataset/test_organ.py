"""Each exclusion, on masks made for it."""

import numpy as np
import pytest

from sam3d_objects.arrays import BoolArray
from sam3d_objects.dataset.organ import OrganCheck, check_organ
from tests.dataset.scans import AFFINE, SHAPE, ellipsoid


def check(mask: BoolArray, labels: int = 1, percent: float = 5.0) -> OrganCheck:
    return check_organ(mask, AFFINE, labels=labels, min_voxels=64, min_extent_vox=4, max_part_percent=percent)


def test_a_whole_organ_has_no_problem() -> None:
    result = check(ellipsoid())
    assert (result.problems, result.notes) == ({}, ())
    assert result.box == (slice(7, 19), slice(6, 23), slice(7, 17))
    np.testing.assert_array_equal(result.mask, ellipsoid()[result.box])


@pytest.mark.parametrize(
    ("axis", "end", "words"),
    [
        (0, False, "first voxel plane of axis 0 (right)"),  # this axis runs to the left
        (0, True, "last voxel plane of axis 0 (left)"),
        (1, False, "first voxel plane of axis 1 (posterior)"),
        (2, True, "last voxel plane of axis 2 (superior)"),
    ],
)
def test_an_organ_that_touches_the_border_is_cut(axis: int, end: bool, words: str) -> None:
    center = [12.5, 14.0, 11.5]
    center[axis] = SHAPE[axis] - 3 if end else 2
    problems = check(ellipsoid((center[0], center[1], center[2]))).problems
    assert list(problems) == ["cut"]
    assert words in problems["cut"]


def test_one_voxel_from_the_border_is_not_cut() -> None:
    mask = np.zeros(SHAPE, dtype=bool)
    mask[1:7, 1:-1, 1:-1] = True
    assert check(mask).problems == {}
    mask[0, 5, 5] = True
    assert list(check(mask).problems) == ["cut"]


@pytest.mark.parametrize("box", [(4, 4, 3), (3, 20, 20), (3, 3, 3)])
def test_few_voxels_or_a_flat_box_are_too_small(box: tuple[int, int, int]) -> None:
    mask = np.zeros(SHAPE, dtype=bool)
    mask[2 : 2 + box[0], 2 : 2 + box[1], 2 : 2 + box[2]] = True
    assert list(check(mask).problems) == ["small"]


def test_exactly_enough_is_enough() -> None:
    mask = np.zeros(SHAPE, dtype=bool)
    mask[2:6, 2:6, 2:6] = True  # 64 voxels, 4 along each axis
    assert check(mask).problems == {}


def test_two_large_parts_are_a_problem_and_a_crumb_is_dropped() -> None:
    mask = np.zeros(SHAPE, dtype=bool)
    mask[2:12, 2:12, 2:7] = True  # 500 voxels
    mask[15:20, 20:25, 18] = True  # 25: exactly 5 %
    result = check(mask)
    assert result.problems == {}
    assert result.notes == ("1 crumbs of 25 voxels in all were dropped",)
    assert result.mask.sum() == 500
    mask[15, 20, 19] = True  # 26: more than 5 %
    result = check(mask)
    assert result.problems == {"parts": "in 2 parts of 500, 26 voxels"}
    assert check(mask, percent=6).problems == {}


def test_parts_hang_together_over_corners() -> None:
    mask = np.zeros(SHAPE, dtype=bool)
    mask[2:8, 2:8, 2:8] = True
    mask[8:14, 8:14, 8:14] = True
    assert check(mask).problems == {}


def test_a_union_of_two_labels_may_have_two_parts() -> None:
    mask = ellipsoid((5, 8, 8), (3, 3, 3)) | ellipsoid((18, 20, 15), (3, 3, 3))
    assert list(check(mask, labels=1).problems) == ["parts"]
    result = check(mask, labels=2)
    assert result.problems == {}
    assert "union of 2 labels" in result.notes[0]


def test_a_crumb_at_the_border_cuts_nothing() -> None:
    mask = ellipsoid()
    mask[0, 0, 0] = True
    assert check(mask).problems == {}
