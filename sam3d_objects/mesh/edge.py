"""Edge: how far the cells of a mask are from its edge, which runs midway between cells."""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from sam3d_objects.arrays import BoolArray, FloatArray


def center_distances_mm(mask: BoolArray, spacing_mm: Sequence[float] | FloatArray) -> FloatArray:
    """Distance of each cell's centre to the nearest one on the other side, mm, above 0 inside."""
    distances: FloatArray = ndimage.distance_transform_edt(mask, sampling=spacing_mm)
    distances -= ndimage.distance_transform_edt(~mask, sampling=spacing_mm)
    return distances


def signed_distances_mm(mask: BoolArray, spacing_mm: Sequence[float] | FloatArray) -> FloatArray:
    """Distance of each cell to the mask's edge, mm, above 0 inside; infinite where there is no edge."""
    if mask.all() or not mask.any():
        return np.full(mask.shape, np.inf if mask.all() else -np.inf)
    distances = center_distances_mm(mask, spacing_mm)
    return distances - np.sign(distances) * min(spacing_mm) / 2
