import numpy as np
import pytest

from sam3d_objects.arrays import FloatArray
from sam3d_objects.volume import Volume, resample, resample_like, shear_degrees, voxel_plane


def linear_field(points_mm: FloatArray) -> FloatArray:
    field: FloatArray = points_mm @ np.array([0.3, -1.7, 0.9]) + 4.0
    return field


def positions_mm(volume: Volume) -> FloatArray:
    return volume.voxel_to_mm(np.moveaxis(np.indices(volume.shape), 0, -1))


@pytest.fixture
def field(affine: FloatArray) -> Volume:
    grid = Volume(np.zeros((8, 9, 10)), affine)
    return grid.with_voxels(linear_field(positions_mm(grid)))


def test_linear_field_stays_where_it_is(field: Volume) -> None:
    finer = resample(field, (0.45, 0.5, 0.9))
    np.testing.assert_allclose(finer.spacing_mm, (0.45, 0.5, 0.9))
    indices = field.mm_to_voxel(positions_mm(finer))
    # Beyond the outermost voxel centres there is nothing to interpolate between.
    between = ((indices >= 0) & (indices <= np.array(field.shape) - 1)).all(axis=-1)
    assert between.mean() > 0.5
    np.testing.assert_allclose(
        finer.voxels[between], linear_field(positions_mm(finer))[between], rtol=1e-9, atol=1e-9
    )


def test_grid_covers_the_scan_about_the_same_centre_and_keeps_handedness(field: Volume) -> None:
    coarse = resample(field, 2.3)
    old, new = np.array(field.shape), np.array(coarse.shape)
    centres = [v.voxel_to_mm([(np.array(v.shape) - 1) / 2]) for v in (field, coarse)]
    np.testing.assert_allclose(centres[1], centres[0], atol=1e-9)
    assert (new * 2.3 >= old * field.spacing_mm - 1e-2).all()
    assert ((new - 1) * 2.3 < old * field.spacing_mm * 1.01).all()
    assert np.linalg.det(coarse.affine[:3, :3]) * np.linalg.det(field.affine[:3, :3]) > 0


def test_same_spacing_is_the_same_volume() -> None:
    volume = Volume(np.random.default_rng(0).random((4, 1, 6)), np.diag([0.5, 2.0, -3.0, 1.0]))
    again = resample(volume, volume.spacing_mm)
    np.testing.assert_array_equal(again.affine, volume.affine)
    np.testing.assert_allclose(again.voxels, volume.voxels, rtol=1e-12)


def test_halved_spacing_by_hand() -> None:
    line = Volume(np.array([0.0, 4.0, 8.0]).reshape(3, 1, 1), np.eye(4))
    finer = resample(line, (0.5, 1.0, 1.0))
    np.testing.assert_allclose(finer.affine[0, 3], -0.25)
    np.testing.assert_allclose(finer.voxels.ravel(), [0, 1, 3, 5, 7, 8])
    labels = resample(line.with_voxels(line.voxels.astype(np.uint8)), (0.5, 1.0, 1.0), order=0)
    assert labels.voxels.dtype == np.uint8
    assert labels.voxels.ravel().tolist() == [0, 0, 4, 4, 8, 8]


def test_sheared_scan_becomes_orthogonal_and_nothing_is_cut_off() -> None:
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    affine[1, 2] = 0.5
    sheared = Volume(np.full((6, 6, 6), 9.0), affine)
    straight = resample(sheared, 1.0)
    assert shear_degrees(sheared.affine) > 10
    assert shear_degrees(straight.affine) < 1e-9
    volume_mm3 = np.count_nonzero(straight.voxels) * straight.voxel_volume_mm3
    assert volume_mm3 == pytest.approx(sheared.voxels.size * sheared.voxel_volume_mm3, rel=0.03)
    assert voxel_plane(straight, "axial", 0).slice_index == 0


def test_resample_like_another_grid(field: Volume) -> None:
    affine = np.diag([0.7, 0.7, 0.7, 1.0])
    affine[:3, 3] = field.voxel_to_mm([[3.5, 4.0, 4.5]])[0] - 0.7
    reference = Volume(np.zeros((3, 3, 3)), affine)
    like = resample_like(field, reference, order=1)
    np.testing.assert_array_equal(like.affine, reference.affine)
    np.testing.assert_allclose(like.voxels, linear_field(positions_mm(reference)), rtol=1e-9, atol=1e-9)


def test_resample_like_where_the_volume_does_not_reach() -> None:
    volume = Volume(np.ones((2, 2, 2), np.int16), np.eye(4))
    shifted = np.eye(4)
    shifted[0, 3] = 1
    like = resample_like(volume, Volume(np.zeros((2, 2, 2)), shifted), order=0, cval=-1000)
    assert like.voxels.dtype == np.int16
    assert like.voxels[:, 0, 0].tolist() == [1, -1000]


def test_float16_and_bool() -> None:
    volume = Volume(np.ones((2, 2, 2), np.float16), np.eye(4))
    assert resample(volume, 0.5, order=1).voxels.dtype == np.float32
    assert resample(volume, 0.5, order=0).voxels.dtype == np.float16
    assert resample(volume.with_voxels(volume.voxels > 0), 0.5, order=0).voxels.all()


@pytest.mark.parametrize("spacing_mm", [0.0, -1.0, np.nan, (1.0, 1.0, 0.0)])
def test_bad_spacing(spacing_mm: float) -> None:
    with pytest.raises(ValueError, match="above zero"):
        resample(Volume(np.zeros((2, 2, 2)), np.eye(4)), spacing_mm)


def test_bad_order() -> None:
    with pytest.raises(ValueError, match="order 0"):
        resample(Volume(np.zeros((2, 2, 2)), np.eye(4)), 1.0, order=2)
