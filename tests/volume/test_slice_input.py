import numpy as np
import pytest

from sam3d_objects.arrays import AnyArray, BoolArray
from sam3d_objects.volume import (
    PLANES,
    SliceInput,
    SlicePlane,
    Volume,
    cut,
    cut_to_mask,
    slice_input,
    through_plane_axis,
)

# Pixels of 2 mm (rows) and 1 mm (columns).
PLANE_AFFINE = np.array([[0.0, -1, 0, 0], [-2, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])


def slice_of(image: AnyArray, mask: AnyArray, valid: BoolArray | None = None) -> SliceInput:
    shape = (image.shape[0], image.shape[1])
    plane = SlicePlane("axial", PLANE_AFFINE, shape, 3)
    return SliceInput(image, mask, plane, np.ones(shape, bool) if valid is None else valid)


def one_pixel(shape: tuple[int, int], row: int, col: int) -> BoolArray:
    mask = np.zeros(shape, dtype=bool)
    mask[row, col] = True
    return mask


def test_slice_of_a_volume(volume: Volume) -> None:
    labels = volume.with_voxels((volume.voxels % 3).astype(np.uint8))
    for name in PLANES:
        index = volume.shape[through_plane_axis(volume.affine, name)] // 2
        given = slice_input(volume, labels, name, index)
        assert given.image.dtype == np.float32
        assert given.mask.dtype == given.valid.dtype == bool
        np.testing.assert_array_equal(given.image, cut(volume, given.plane))
        np.testing.assert_array_equal(given.mask, given.image % 3 != 0)
        assert given.valid.all()
        assert given.plane.slice_index == index


def test_margin_worked_by_hand() -> None:
    image = np.arange(1, 9 * 11 + 1, dtype=np.float32).reshape(9, 11)
    seen = cut_to_mask(slice_of(image, one_pixel((9, 11), 4, 5)), margin_mm=2.0)
    # One row of 2 mm and two columns of 1 mm on each side; the corners are further than 2 mm.
    expected = np.array([[0, 0, 1, 0, 0], [1, 1, 1, 1, 1], [0, 0, 1, 0, 0]], dtype=bool)
    np.testing.assert_array_equal(seen.valid, expected)
    np.testing.assert_array_equal(seen.image, np.where(expected, image[3:6, 3:8], 0))
    np.testing.assert_array_equal(seen.mask, one_pixel((3, 5), 1, 2))
    np.testing.assert_allclose(seen.plane.pixel_to_mm([1, 2]), (-5, -8, 0))


def test_margin_that_is_no_multiple_of_the_spacing_is_rounded_up_then_trimmed() -> None:
    seen = cut_to_mask(slice_of(np.ones((9, 11)), one_pixel((9, 11), 4, 5)), margin_mm=2.5)
    assert seen.plane.shape == (5, 7)
    assert not seen.valid[[0, -1]].any()
    assert seen.valid[2].tolist() == [False, True, True, True, True, True, False]


def test_no_margin_leaves_the_mask() -> None:
    mask = np.zeros((6, 6), bool)
    mask[1:3, 2:5] = True
    mask[1, 2] = False
    seen = cut_to_mask(slice_of(np.ones((6, 6)), mask), 0.0)
    np.testing.assert_array_equal(seen.valid, mask[1:3, 2:5])


def test_border_of_the_scan_does_not_show_in_the_shape() -> None:
    image = np.ones((9, 11), dtype=np.float32)
    middle = cut_to_mask(slice_of(image, one_pixel((9, 11), 4, 5)), 3.0)
    corner = cut_to_mask(slice_of(image, one_pixel((9, 11), 0, 10)), 3.0)
    assert corner.plane.shape == middle.plane.shape
    np.testing.assert_array_equal(corner.mask, middle.mask)
    inside = np.zeros(corner.plane.shape, bool)
    inside[corner.plane.shape[0] // 2 :, : corner.plane.shape[1] // 2 + 1] = True
    np.testing.assert_array_equal(corner.valid, middle.valid & inside)
    assert (corner.image[~corner.valid] == 0).all()


def test_nothing_beyond_the_margin_is_left() -> None:
    rng = np.random.default_rng(0)
    mask = np.zeros((30, 40), bool)
    mask[12:18, 15:30] = rng.random((6, 15)) > 0.4
    rows, cols = np.nonzero(mask)
    row, col = np.indices(mask.shape)
    distance_mm = np.hypot(2.0 * (row[..., None] - rows), 1.0 * (col[..., None] - cols)).min(axis=-1)
    image = rng.normal(size=mask.shape)
    changed = np.where(distance_mm > 3.0, rng.normal(size=mask.shape) * 1e6, image)
    first, second = cut_to_mask(slice_of(image, mask), 3.0), cut_to_mask(slice_of(changed, mask), 3.0)
    np.testing.assert_array_equal(first.image, second.image)
    assert first.valid.sum() == (distance_mm <= 3.0).sum()


def test_cutting_twice_is_cutting_once(volume: Volume) -> None:
    mask = volume.with_voxels(np.isin(volume.voxels, (100, 101, 107)))
    for name in PLANES:
        index = int(np.argwhere(mask.voxels)[0][through_plane_axis(volume.affine, name)])
        once = cut_to_mask(slice_input(volume, mask, name, index), 1.7)
        twice = cut_to_mask(once, 1.7)
        np.testing.assert_array_equal(twice.image, once.image)
        np.testing.assert_array_equal(twice.valid, once.valid)
        np.testing.assert_allclose(twice.plane.affine, once.plane.affine, atol=1e-12)


def test_cut_pixels_stay_where_they_are(volume: Volume) -> None:
    mask = volume.with_voxels(np.isin(volume.voxels, (100, 101, 107)))
    seen = cut_to_mask(slice_input(volume, mask, "sagittal", 2), 2.0)
    np.testing.assert_array_equal(seen.image, np.where(seen.valid, cut(volume, seen.plane, cval=-1), 0))


class TestBadSlices:
    def test_empty_mask_names_the_slice(self, volume: Volume) -> None:
        empty = volume.with_voxels(np.zeros(volume.shape, np.uint8))
        with pytest.raises(ValueError, match="coronal slice 3: the mask is empty"):
            slice_input(volume, empty, "coronal", 3)

    def test_other_grid(self, volume: Volume) -> None:
        with pytest.raises(ValueError, match="one shape"):
            slice_input(volume, Volume(np.ones((2, 2, 2)), volume.affine), "axial", 0)

    def test_shapes(self) -> None:
        with pytest.raises(ValueError, match=r"axial slice 3: .*\(4, 4\).*\(4, 5\)"):
            slice_of(np.ones((4, 4)), np.ones((4, 5)))

    def test_mask_outside_the_scan(self) -> None:
        with pytest.raises(ValueError, match="2 mask pixels lie outside"):
            slice_of(np.ones((2, 2)), np.ones((2, 2)), np.array([[True, False], [False, True]]))

    def test_non_finite(self) -> None:
        with pytest.raises(ValueError, match="1 NaN"):
            slice_of(np.array([[1.0, np.nan]]), np.ones((1, 2)))

    @pytest.mark.parametrize("margin_mm", [-1.0, np.nan, np.inf])
    def test_margin(self, margin_mm: float) -> None:
        with pytest.raises(ValueError, match="margin_mm"):
            cut_to_mask(slice_of(np.ones((2, 2)), np.ones((2, 2))), margin_mm)
