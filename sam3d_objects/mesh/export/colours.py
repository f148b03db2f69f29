"""Colours of a number at each vertex, for formats whose viewers show colours and no numbers."""

import numpy as np
import numpy.typing as npt

from sam3d_objects.arrays import FloatArray

COLOUR_MAP = "viridis"


def colour_range(values: FloatArray) -> tuple[float, float]:
    """The numbers that the first and the last colour stand for: 0 (or the least, if below) and the largest."""
    return min(0.0, float(values.min())), max(0.0, float(values.max()))


def colours(values: FloatArray) -> npt.NDArray[np.uint8]:
    """(V, 3) uint8 sRGB of the numbers (V,), viridis over `colour_range`; the first colour where all are 0."""
    from matplotlib import colormaps

    low, high = colour_range(values)
    share = (values - low) / (high - low) if high > low else np.zeros(len(values))
    return np.asarray(colormaps[COLOUR_MAP](share, bytes=True), dtype=np.uint8)[:, :3]


def linear_light(srgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """sRGB (V, 3) as uint8 of linear light (IEC 61966-2-1), which glTF's vertex colours are."""
    share = srgb / 255
    return np.rint(255 * np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)).astype(np.uint8)
