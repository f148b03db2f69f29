"""Shell: the solid that a shell of surface voxels stands for."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from sam3d_objects.arrays import AnyArray, FloatArray

# A shell of touched voxels is at most this thick; where no hollow is as near, the solid is thinner than its shell.
SHELL_REACH_CELLS = 2.0


def solid_from_shell(occupied: AnyArray) -> FloatArray:
    """Turn surface voxels (R, R, R) into a solid field (R, R, R) whose surface is the middle of the shell.

    A shell, filled, is half a voxel too fat (trap 13 of fine-tuning on voxels), and more where the surface runs
    askew. The surface taken is as far from what is outside as from the hollow within; a part without a hollow is
    taken half a voxel within its rim. A shell with a hole cannot be filled and stays a shell.
    """
    shell = occupied > 0
    filled = ndimage.binary_fill_holes(shell)
    hollow = filled & ~shell
    outside = ndimage.distance_transform_edt(np.pad(filled, 1))[1:-1, 1:-1, 1:-1]
    within = ndimage.distance_transform_edt(~hollow) if hollow.any() else np.full(shell.shape, np.inf)
    # A one-voxel shell has 1 for both, and its voxels' centres lie on the surface: level 0.5.
    middle = np.where(within <= SHELL_REACH_CELLS, (outside - within) / 2, outside - 1)
    return np.clip(middle + 0.5, 0.0, 1.0) * filled
