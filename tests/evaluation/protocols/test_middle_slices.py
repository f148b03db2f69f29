"""The slice that the protocol shows: the middle of the organ, in eight bits, and nothing around it."""

from pathlib import Path

import numpy as np
import pytest

from sam3d_objects.arrays import AnyArray, BoolArray
from sam3d_objects.dataset import Manifest, PreparedCase, PrepareOptions, prepare
from sam3d_objects.evaluation.protocols import eight_bit, middle_cases, middle_index
from sam3d_objects.volume import SliceInput, SlicePlane
from tests.dataset.scans import write_totalsegmentator

SHAPE = (5, 6)


def slice_of(image: AnyArray, mask: BoolArray) -> SliceInput:
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 3] = (0, -2, 0), (-1, 0, 0), (10, 20, 30)
    return SliceInput(image, mask, SlicePlane("axial", affine, SHAPE, 7), np.ones(SHAPE, dtype=bool), np.arange(9.0))


@pytest.fixture
def mask() -> BoolArray:
    mask = np.zeros(SHAPE, dtype=bool)
    mask[1, 2], mask[2, 2:5], mask[3, 3] = True, True, True
    return mask


@pytest.mark.parametrize(
    ("areas", "index"),
    [([5], 0), ([1, 2, 3], 1), ([1, 9, 9, 1], 1), ([0, 0, 4, 4, 4, 0], 3), ([3, 0, 0, 0, 5], 0), ([3, 0, 0, 4, 5], 3)],
)
def test_the_middle_of_the_extent_or_the_nearest_slice_with_the_organ(areas: list[int], index: int) -> None:
    assert middle_index(np.array(areas)) == index


def test_no_organ_has_no_middle() -> None:
    with pytest.raises(ValueError, match="areas of 0"):
        middle_index(np.zeros(3, dtype=int))


def test_the_box_of_the_mask_in_eight_bits(mask: BoolArray) -> None:
    image = np.full(SHAPE, 900.0)
    image[mask] = [100, 210, 300, 400, 50]  # row by row
    shown = eight_bit(slice_of(image, mask))
    level = 255 / 400  # the background is 0 and the darkest, the brightest pixel 400
    expected = np.rint(np.array([[100, 0, 0], [210, 300, 400], [0, 50, 0]]) * level)
    assert np.array_equal(shown.image, expected) and shown.image.dtype == np.float32
    assert np.array_equal(shown.mask, mask[1:4, 2:5]) and shown.valid.all() and shown.reference is None


def test_values_below_zero_make_the_background_grey(mask: BoolArray) -> None:
    image = np.where(mask, -100.0, 900.0)
    image[2, 2] = 100
    shown = eight_bit(slice_of(image, mask))
    assert shown.image[0, 1] == 128 and shown.image[0, 0] == 0 and shown.image[1, 0] == 255


def test_its_pixels_stay_where_they_are_in_the_patient(mask: BoolArray) -> None:
    whole = slice_of(np.ones(SHAPE), mask)
    shown = eight_bit(whole)
    assert shown.plane.pixel_to_mm([[0, 0]]) == pytest.approx(whole.plane.pixel_to_mm([[1, 2]]))
    assert shown.plane.slice_index == 7


def test_nothing_around_the_organ_changes_what_is_shown(mask: BoolArray) -> None:
    inside = np.where(mask, np.arange(30.0).reshape(SHAPE), 0)
    noise = np.random.default_rng(0).normal(size=SHAPE) * 1e4
    one, other = eight_bit(slice_of(inside, mask)), eight_bit(slice_of(np.where(mask, inside, noise), mask))
    assert np.array_equal(one.image, other.image)


def test_a_box_of_zeros_is_black() -> None:
    assert not eight_bit(slice_of(np.zeros(SHAPE), np.ones(SHAPE, dtype=bool))).image.any()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six scans of a large organ and a small one, prepared: their extents are k = 7 to 16 and 3 to 9."""
    root = tmp_path_factory.mktemp("protocol")
    write_totalsegmentator(root / "raw", 6)
    options = PrepareOptions(val_fraction=0.2, test_fraction=0.34, num_workers=0)
    prepare(root / "raw", root / "out", options, say=lambda line: None, show_progress=False)
    return root / "out"


def test_one_axial_slice_of_each_organ_of_the_test_patients(folder: Path) -> None:
    cases = middle_cases(folder)
    patients = {entry.patient for entry in Manifest.load(folder).of_split("test")}
    assert {case.patient for case in cases} == patients and len(cases) == 2 * len(patients)
    assert {(case.organ, case.plane, case.slice_kind, case.slice_index) for case in cases} == {
        ("liver", "axial", "middle", 11),
        ("gland", "axial", "middle", 6),
    }
    assert {case.organ for case in middle_cases(folder, ["gland"])} == {"gland"}
    with pytest.raises(ValueError, match="no organ 'glnd'"):
        middle_cases(folder, ["glnd"])


def test_the_material_is_the_prepared_slice_and_the_whole_truth(folder: Path) -> None:
    case = middle_cases(folder, ["liver"])[0]
    material = case.load()
    raw = PreparedCase(folder, Manifest.load(folder).of_split("test")[0]).slice("liver", "axial", 11)
    assert np.array_equal(material.slice.image, eight_bit(raw).image)
    assert (material.slice.image.min(), material.slice.image.max()) == (0, 255)
    assert material.slice.mask.sum() == raw.mask.sum() < material.slice.mask.size
    assert material.truth.voxels > 10 * raw.mask.sum() / 2
