import re

import numpy as np
import pytest

from sam3d_objects.arrays import FloatArray
from sam3d_objects.volume import Volume, apply_affine, check_same_grid


def test_voxel_to_mm_and_back_is_the_identity(volume: Volume) -> None:
    points = np.random.default_rng(0).uniform(-50, 500, (200, 3))
    assert np.abs(volume.mm_to_voxel(volume.voxel_to_mm(points)) - points).max() < 1e-9


def test_worked_by_hand() -> None:
    affine = np.array([[0.0, 0.0, -2.0, 10.0], [3.0, 0.0, 0.0, 20.0], [0.0, -4.0, 0.0, 30.0], [0, 0, 0, 1]])
    volume = Volume(np.zeros((10, 20, 30), np.uint8), affine)
    np.testing.assert_array_equal(volume.voxel_to_mm([[1, 2, 3]]), [[10 - 6, 20 + 3, 30 - 8]])
    np.testing.assert_allclose(volume.spacing_mm, (3, 4, 2))
    assert volume.voxel_volume_mm3 == pytest.approx(24)
    assert volume.diagonal_mm == pytest.approx(np.sqrt(30**2 + 80**2 + 60**2))


def test_diagonal_of_a_sheared_grid_is_its_longest() -> None:
    affine = np.eye(4)
    affine[:3, 1] = (-1, 1, 0)
    # Corners (1, 0) and (-1, 1) in the plane, 1 across: the two others are nearer to each other.
    assert Volume(np.zeros((1, 1, 1)), affine).diagonal_mm == pytest.approx(np.sqrt(2**2 + 1 + 1))


def test_affine_is_a_read_only_copy() -> None:
    affine = np.eye(4)
    volume = Volume(np.zeros((2, 2, 2)), affine)
    affine[0, 3] = 99
    assert volume.affine[0, 3] == 0
    with pytest.raises(ValueError, match="read-only"):
        volume.affine[0, 3] = 1


def with_entry(row: int, column: int, value: float) -> FloatArray:
    affine = np.eye(4)
    affine[row, column] = value
    return affine


@pytest.mark.parametrize(
    ("affine", "message"),
    [
        (with_entry(0, 3, np.nan), "finite affine"),
        (with_entry(0, 0, np.inf), "finite affine"),
        (with_entry(1, 1, 0.0), "non-zero voxel spacing"),
        (with_entry(3, 0, 1.0), "last row"),
        (np.eye(3), "4x4"),
        (np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), "independent"),
    ],
)
def test_bad_affine(affine: FloatArray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Volume(np.zeros((2, 2, 2)), affine)


@pytest.mark.parametrize("shape", [(2, 2), (2, 2, 2, 2), (0, 2, 2)])
def test_bad_voxels(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=re.escape(str(shape))):
        Volume(np.zeros(shape), np.eye(4))


def test_with_voxels_keeps_the_grid(volume: Volume) -> None:
    other = volume.with_voxels(volume.voxels > 3)
    np.testing.assert_array_equal(other.affine, volume.affine)
    with pytest.raises(ValueError, match=r"\(1, 6, 7\)"):
        volume.with_voxels(volume.voxels[:1])


def test_apply_affine_refuses_other_points() -> None:
    with pytest.raises(ValueError, match=r"\(\.\.\., 3\)"):
        apply_affine(np.eye(4), [[1, 2]])


class TestSameGrid:
    def test_rounding_to_float32_is_one_grid(self, volume: Volume) -> None:
        check_same_grid(volume, Volume(volume.voxels, volume.affine.astype(np.float32)), "case 1")

    def test_other_shape(self, volume: Volume) -> None:
        with pytest.raises(ValueError, match=r"case 1: .*\(5, 6, 7\).*\(4, 6, 7\)"):
            check_same_grid(volume, Volume(volume.voxels[1:], volume.affine), "case 1")

    def test_shifted(self, volume: Volume) -> None:
        shifted = volume.affine.copy()
        shifted[0, 3] += 0.1
        with pytest.raises(ValueError, match=r"case 1: .*0\.1 mm apart"):
            check_same_grid(volume, Volume(volume.voxels, shifted), "case 1")

    def test_flipped(self, volume: Volume) -> None:
        flipped = volume.affine @ np.diag([-1.0, 1.0, 1.0, 1.0])
        with pytest.raises(ValueError, match="one affine"):
            check_same_grid(volume, Volume(volume.voxels, flipped), "case 1")
