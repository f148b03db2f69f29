"""Parts: what of a field becomes a surface, and what is taken for noise beside it."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from sam3d_objects.arrays import FloatArray

MAIN_PART_SHARE = 0.25
"""Of the largest part's voxels. A pair of organs that are marked as one (both kidneys, both lungs) is two parts of like
size; what a model puts beside an organ by mistake is far smaller.
"""


def main_parts(field: FloatArray, level: float) -> FloatArray:
    """Return the field with its small connected parts of {field > level} moved below the level.

    Parts hang together over faces; one with less than a quarter of the largest part's voxels is small. What was below
    the level stays as it is, so that the surface of a part that is kept keeps its place between the voxels.
    """
    parts, count = ndimage.label(field > level)
    if count < 2:
        return field
    sizes = np.bincount(parts.ravel())
    small = sizes < MAIN_PART_SHARE * sizes[1:].max()
    small[0] = False
    return np.where(small[parts], np.minimum(field, 2 * level - field), field)
