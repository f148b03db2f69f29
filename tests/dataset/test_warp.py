"""Warps are small, fixed, and move scan, mask and surface as one."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sam3d_objects.dataset import Manifest, PreparedCase
from sam3d_objects.dataset.soft_mask import soft_mask
from sam3d_objects.dataset.warp import MAX_ROTATION_DEGREES, SCALES, random_warp, slice_table
from sam3d_objects.volume import PLANES, Volume, apply_affine, cut

CENTER = np.array([10.0, -30.0, 55.0])


@settings(deadline=None)
@given(st.integers(0, 10_000))
def test_a_warp_is_gentle_and_keeps_the_centre_and_the_handedness(seed: int) -> None:
    matrix = random_warp(np.random.default_rng(seed), CENTER)
    np.testing.assert_allclose(apply_affine(matrix, CENTER[None])[0], CENTER, atol=1e-9)
    stretch = np.linalg.svd(matrix[:3, :3], compute_uv=False)
    assert SCALES[0] * 0.85 < stretch.min() <= stretch.max() < SCALES[1] * 1.15
    assert np.linalg.det(matrix[:3, :3]) > 0
    turned = np.degrees(np.arccos(np.clip(matrix[2, 2] / np.linalg.norm(matrix[:3, 2]), -1, 1)))
    assert turned <= MAX_ROTATION_DEGREES + 10  # the shear tilts too, by less than 10 degrees


def test_half_of_the_warps_mirror_when_they_may() -> None:
    signs = [
        np.sign(np.linalg.det(random_warp(np.random.default_rng(seed), CENTER, allow_mirror=True)))
        for seed in range(200)
    ]
    assert 70 < signs.count(-1) < 130


@pytest.fixture
def case(prepared: Path) -> PreparedCase:
    return PreparedCase(prepared, Manifest.load(prepared).cases[1])


@pytest.mark.parametrize("plane_name", PLANES)
def test_without_a_warp_the_table_is_the_scans_own_slices(case: PreparedCase, plane_name: str) -> None:
    table = slice_table(case, "organ", plane_name, None, 3.0)
    for number, area in enumerate(table.areas):
        plane = table.plane(number)
        assert plane.slice_index is not None
        native = case.slice("organ", plane_name, plane.slice_index)
        assert case.cut("organ", plane).mask.sum() == native.mask.sum() == area


@pytest.mark.parametrize("plane_name", PLANES)
def test_the_table_of_a_warped_organ_holds_all_of_it_and_its_margin(case: PreparedCase, plane_name: str) -> None:
    box_mm = np.array(case.entry.organs["organ"].box_mm)
    shares = []
    for seed in range(20):
        warp = random_warp(np.random.default_rng(seed), box_mm.mean(axis=0))
        table = slice_table(case, "organ", plane_name, warp, 3.0)
        shown = 0
        for number in range(len(table.areas)):
            mask = case.cut_mask("organ", table.plane(number), warp)
            shown += mask.sum()
            pad = np.ceil(3.0 / np.array(table.first.pixel_spacing_mm)).astype(int)
            assert not mask[: pad[0]].any() and not mask[-pad[0] :].any()
            assert not mask[:, : pad[1]].any() and not mask[:, -pad[1] :].any()
        voxels = case.entry.organs["organ"].voxels * np.linalg.det(warp[:3, :3])
        shares.append(shown / voxels)
        assert table.areas.sum() == case.entry.organs["organ"].voxels
    # All slices together hold the warped organ's volume; each by chance of where they lie, on average truly.
    assert np.mean(shares) == pytest.approx(1, abs=0.01)


def test_scan_keeps_the_whole_slice(case: PreparedCase) -> None:
    whole = case.plane("axial", case.first_index("axial"))
    table = slice_table(case, "organ", "axial", None, None)
    assert table.first.shape == whole.shape
    np.testing.assert_allclose(table.first.affine[:3, 0], whole.affine[:3, 0])


def test_the_warped_image_is_the_scan_at_the_point_before_the_warp(case: PreparedCase) -> None:
    warp = random_warp(np.random.default_rng(3), np.array(case.entry.organs["organ"].box_mm).mean(axis=0))
    table = slice_table(case, "organ", "coronal", warp, 3.0)
    plane = table.plane(len(table.areas) // 2)
    made = case.cut("organ", plane, warp)
    row, col = np.argwhere(made.mask)[7]
    before_mm = apply_affine(np.linalg.inv(warp), plane.pixel_to_mm([[row, col]]))[0]
    index = case.image.mm_to_voxel(before_mm[None])[0]
    # Trilinear by hand.
    low = np.floor(index).astype(int)
    value = 0.0
    for corner in np.ndindex(2, 2, 2):
        weight = np.prod(np.where(corner, index - low, 1 - (index - low)))
        value += weight * case.image.voxels[tuple(low + corner)]
    assert made.image[row, col] == pytest.approx(value, rel=1e-4)


def test_the_box_mask_gives_what_the_whole_mask_gives(case: PreparedCase) -> None:
    warp = random_warp(np.random.default_rng(5), np.array(case.entry.organs["organ"].box_mm).mean(axis=0))
    whole = case.native_label("organ")
    for plane_name in PLANES:
        table = slice_table(case, "organ", plane_name, warp, 3.0)
        for number in range(0, len(table.areas), 3):
            plane = table.plane(number)
            field, level = soft_mask(whole.voxels)
            expected = cut(Volume(field, warp @ whole.affine), plane, order=1) >= level
            np.testing.assert_array_equal(case.cut_mask("organ", plane, warp), expected)
