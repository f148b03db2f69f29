"""What is stored comes back, with the stated loss and no pickle."""

from pathlib import Path

import numpy as np
import pytest

from sam3d_objects.arrays import AnyArray
from sam3d_objects.dataset.storage import (
    encode_intensities,
    load_organ,
    load_volume,
    save_organ,
    save_volume,
)
from sam3d_objects.mesh import surface_from_mask
from tests.dataset.scans import ellipsoid


@pytest.mark.parametrize(
    ("voxels", "dtype"),
    [
        (np.array([[[-1024.0, 3071.0]]]), np.int16),
        (np.array([[[0.0, 60000.0]]]), np.uint16),
        (np.full((2, 2, 2), 7.0), np.int16),
        (np.full((2, 2, 2), 0.5), np.float32),
    ],
)
def test_whole_numbers_and_constants_are_kept_exactly(voxels: AnyArray, dtype: type) -> None:
    stored, slope, intercept, rounding = encode_intensities(voxels)
    assert stored.dtype == dtype
    assert rounding == 0
    np.testing.assert_array_equal(stored * slope + intercept, voxels)


def test_large_mr_intensities_lose_half_a_step_of_16_bits() -> None:
    voxels = np.random.default_rng(0).uniform(0, 1.7e6, (8, 8, 8))
    stored, slope, intercept, rounding = encode_intensities(voxels)
    assert stored.dtype == np.uint16
    assert rounding == pytest.approx(np.ptp(voxels) / 65535 / 2)
    assert np.abs(stored * slope + intercept - voxels).max() <= rounding * (1 + 1e-9)


def test_an_outlier_that_would_cost_grey_levels_is_stored_as_float() -> None:
    voxels = np.random.default_rng(0).uniform(0, 1, (8, 8, 8))
    voxels[0, 0, 0] = 1e5
    stored, _, _, rounding = encode_intensities(voxels)
    assert stored.dtype == np.float32
    assert rounding < 1e-2


def test_a_volume_and_an_organ_come_back(tmp_path: Path) -> None:
    mask = ellipsoid()[5:20, 4:24, 5:19]
    mesh = surface_from_mask(mask, np.diag([1, 1, 2, 1]))
    save_organ(tmp_path, 3, mask, mesh)
    loaded, surface = load_organ(tmp_path, 3, mask.shape)
    np.testing.assert_array_equal(loaded, mask)
    np.testing.assert_array_equal(surface.vertices, mesh.vertices)
    np.testing.assert_array_equal(surface.faces, mesh.faces)
    voxels = np.arange(24.0).reshape(2, 3, 4)
    assert save_volume(tmp_path, voxels) == 0
    np.testing.assert_array_equal(load_volume(tmp_path)[0], voxels)


def test_a_missing_truncated_or_pickled_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "volume.npz"
    with pytest.raises(ValueError, match=r"volume\.npz is missing or damaged"):
        load_volume(tmp_path)
    save_volume(tmp_path, np.arange(1000.0).reshape(10, 10, 10))
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"volume\.npz is missing or damaged"):
        load_volume(tmp_path)
    np.savez(path, voxels=np.array([{}], dtype=object), scaling=np.zeros(2))
    with pytest.raises(ValueError, match=r"damaged.*allow_pickle"):
        load_volume(tmp_path)
