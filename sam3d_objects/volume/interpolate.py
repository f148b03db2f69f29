"""Voxel values at fractional indices, with one rule for what lies inside a scan."""

import numpy as np
from scipy import ndimage

from sam3d_objects.arrays import AnyArray, BoolArray, FloatArray

_EDGE_TOLERANCE_VOX = 1e-6


def inside_grid(points_vox: FloatArray, shape: tuple[int, int, int]) -> BoolArray:
    """Tell which points (..., 3), in voxel indices, lie in a voxel (edges included), (...) bool."""
    upper = np.array(shape) - 0.5 + _EDGE_TOLERANCE_VOX
    within = (points_vox >= -0.5 - _EDGE_TOLERANCE_VOX) & (points_vox <= upper)
    return np.asarray(within.all(axis=-1))


def interpolate(voxels: AnyArray, points_vox: FloatArray, order: int, cval: float) -> AnyArray:
    """Return the values of voxels (I, J, K) at points (..., 3) in voxel indices.

    Inside the scan but beyond its outermost voxel centres the border voxel's value is taken; outside it,
    `cval`.

    Args:
        voxels: any real or bool dtype.
        points_vox: float64.
        order: 0 nearest voxel, 1 trilinear.
        cval: the value outside the scan.

    Returns:
        (...) array; of the voxels' dtype for order 0, otherwise of at least float32.
    """
    check_order(order)
    dtype = value_dtype(voxels.dtype, order)
    source = voxels.astype(np.float32) if voxels.dtype == np.float16 else voxels  # SciPy reads no float16
    values = ndimage.map_coordinates(
        source,
        np.moveaxis(points_vox, -1, 0),
        output=np.float32 if dtype == np.float16 else dtype.newbyteorder("="),
        order=order,
        mode="nearest",
        prefilter=False,
    )
    values[~inside_grid(points_vox, (voxels.shape[0], voxels.shape[1], voxels.shape[2]))] = cval
    return values.astype(dtype, copy=False)


def value_dtype(dtype: np.dtype, order: int) -> np.dtype:
    """Return the dtype that voxels are read as: their own for order 0, at least float32 for order 1."""
    return dtype if order == 0 else np.result_type(dtype, np.float32)


def check_order(order: int) -> None:
    """Raise a ValueError unless `order` is 0 (nearest) or 1 (linear)."""
    if order not in (0, 1):
        raise ValueError(f"expected interpolation order 0 (nearest) or 1 (linear), got {order}")
