"""The smallest box of a grid that holds all that is marked."""

import numpy as np

from sam3d_objects.arrays import BoolArray

Box = tuple[slice, slice, slice]


def box_of(mask: BoolArray) -> Box:
    """Return the slices of the smallest box of a mask (I, J, K) that holds all its marked voxels.

    Raises:
        ValueError: nothing is marked.
    """
    sides: list[slice] = []
    left = mask
    for axis in range(3):  # each axis looks only at what the axes before it left
        marked = np.flatnonzero(left.any(axis=tuple(other for other in range(3) if other != axis)))
        if len(marked) == 0:
            raise ValueError(f"expected a mask with at least one voxel, got an empty one of shape {mask.shape}")
        sides.append(slice(int(marked[0]), int(marked[-1]) + 1))
        left = left[(slice(None),) * axis + (sides[-1],)]
    return sides[0], sides[1], sides[2]
