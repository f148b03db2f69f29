import numpy as np
import pytest

from sam3d_objects.volume import Volume, shear_degrees, to_canonical
from sam3d_objects.volume.orientation import nearest_axes


def test_canonical_keeps_every_voxel_where_it_is(volume: Volume) -> None:
    canonical = to_canonical(volume)
    indices = np.indices(canonical.shape).reshape(3, -1).T
    before = volume.mm_to_voxel(canonical.voxel_to_mm(indices))
    assert np.abs(before - np.rint(before)).max() < 1e-9
    i, j, k = np.rint(before).astype(int).T
    np.testing.assert_array_equal(canonical.voxels.reshape(-1), volume.voxels[i, j, k])


def test_canonical_axes_run_to_right_anterior_superior(volume: Volume) -> None:
    canonical = to_canonical(volume)
    assert (np.diag(canonical.affine)[:3] > 0).all()
    assert nearest_axes(canonical.affine) == ((0, 1, 2), (1, 1, 1))
    np.testing.assert_array_equal(to_canonical(canonical).affine, canonical.affine)


def test_nearest_axes_by_hand() -> None:
    affine = np.array([[0.0, 0.1, -2.0, 0], [3.0, 0.0, 0.1, 0], [0.1, -4.0, 0.0, 0], [0, 0, 0, 1]])
    assert nearest_axes(affine) == ((2, 0, 1), (-1, 1, -1))


@pytest.mark.parametrize("degrees", [20.0, 44.0, 46.0, 70.0])
def test_each_voxel_axis_is_used_once_however_oblique(degrees: float) -> None:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    affine = np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    axes, signs = nearest_axes(affine)
    assert axes == ((0, 1, 2) if degrees < 45 else (1, 0, 2))
    assert signs == ((1, 1, 1) if degrees < 45 else (-1, 1, 1))


def test_shear_is_the_worst_angle() -> None:
    affine = np.eye(4)
    assert shear_degrees(affine) == 0
    affine[:3, 1] = (np.sin(np.radians(3)), np.cos(np.radians(3)), 0)
    affine[:3, 2] = (0, 5 * np.sin(np.radians(-2)), 5 * np.cos(np.radians(2)))
    assert shear_degrees(affine) == pytest.approx(3)
