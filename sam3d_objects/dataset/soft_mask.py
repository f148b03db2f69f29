"""A mask that can be cut between its voxels without losing volume.

A binary mask, interpolated linearly and cut at one half, loses what sticks out: 1 to 4 % of a small organ's
volume. Slices through warped organs would show less organ than the surface that belongs to them.
"""

import numpy as np
from scipy import ndimage

from sam3d_objects.arrays import BoolArray, FloatArray

_SIGMA_VOX = 0.5
_LARGE_VOXELS = 500_000
_LARGE_LEVEL = 0.49  # of a ball of 35 voxels radius; finding it would take seconds for a liver


def soft_mask(mask: BoolArray) -> tuple[FloatArray, float]:
    """Blur a mask slightly, and find the level at which it has its volume again.

    Measured on hippocampi: a slice through a warped organ and the same cut of its surface have a Dice of
    .982, with the binary mask .972, and .989 where nothing is warped.

    Args:
        mask: (I, J, K) bool, with at least one empty voxel around the organ.

    Returns:
        field (I, J, K) float32 in [0, 1]; the level: the organ is where the field, interpolated linearly, is
        at least that.
    """
    field = ndimage.gaussian_filter(mask.astype(np.float32), _SIGMA_VOX, mode="constant")
    if mask.size > _LARGE_VOXELS:
        return field, _LARGE_LEVEL
    fine = field
    for axis in range(3):  # interpolated at a quarter and three quarters of the way: eight samples a voxel
        low, high = (np.take(fine, range(k, fine.shape[axis] - 1 + k), axis) for k in (0, 1))
        fine = np.concatenate([0.75 * low + 0.25 * high, 0.25 * low + 0.75 * high], axis)
    count = 8 * int(np.count_nonzero(mask))
    return field, float(np.partition(fine, fine.size - count, axis=None)[fine.size - count])
