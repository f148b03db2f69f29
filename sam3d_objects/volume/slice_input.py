"""One slice with the organ marked on it: everything that a reconstruction may see."""

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from sam3d_objects.arrays import AnyArray, BoolArray, FloatArray
from sam3d_objects.volume.planes import SlicePlane, cut, voxel_plane
from sam3d_objects.volume.volume import Volume, check_same_grid

_MARGIN_TOLERANCE_MM = 1e-6


@dataclass(frozen=True, eq=False)
class SliceInput:
    """A slice image, the organ's mask on it, and where it lies in the patient.

    Attributes:
        image: (rows, cols) float32 raw intensities (HU for CT); 0 where not `valid`.
        mask: (rows, cols) bool, the organ; never empty.
        plane: pixel -> RAS mm.
        valid: (rows, cols) bool, pixels that lie in the scan and may be looked at.
        reference: (N,) intensities that stand for the whole scan (`quantile_summary`), where it is known; only the
            field of view 'scan' looks at them.

    Raises:
        ValueError: arrays of another shape than the plane's, an empty mask, a mask that leaves the valid
            pixels, or intensities that are not finite.
    """

    image: FloatArray
    mask: BoolArray
    plane: SlicePlane
    valid: BoolArray
    reference: FloatArray | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "image", np.asarray(self.image, dtype=np.float32))
        object.__setattr__(self, "mask", np.asarray(self.mask, dtype=bool))
        object.__setattr__(self, "valid", np.asarray(self.valid, dtype=bool))
        shapes = {"image": self.image.shape, "mask": self.mask.shape, "valid": self.valid.shape}
        if set(shapes.values()) != {self.plane.shape}:
            raise ValueError(
                f"{self._where()}: expected arrays of the plane's shape {self.plane.shape}, got {shapes}"
            )
        if not self.mask.any():
            raise ValueError(
                f"{self._where()}: the mask is empty on this slice; "
                "choose a slice on which the organ is marked"
            )
        if (self.mask & ~self.valid).any():
            raise ValueError(
                f"{self._where()}: {(self.mask & ~self.valid).sum()} mask pixels lie outside the scan"
            )
        if not np.isfinite(self.image).all():
            bad = int((~np.isfinite(self.image)).sum())
            raise ValueError(
                f"{self._where()}: expected finite intensities, got {bad} NaN or infinite pixels"
            )

    def _where(self) -> str:
        index = self.plane.slice_index
        return f"{self.plane.name} slice" if index is None else f"{self.plane.name} slice {index}"


def slice_input(image: Volume, mask: Volume, plane_name: str, slice_index: int) -> SliceInput:
    """Cut one voxel plane out of a scan and its mask, without interpolation.

    Args:
        image: the scan.
        mask: the organ on the same grid; every voxel that is not zero belongs to it.
        plane_name: 'axial', 'coronal' or 'sagittal'.
        slice_index: native voxel index along the plane's through-plane axis.

    Raises:
        ValueError: the two grids differ, the index is outside the scan, or the mask is empty on the slice.
    """
    check_same_grid(image, mask, f"{plane_name} slice {slice_index}")
    plane = voxel_plane(image, plane_name, slice_index)
    marked = cut(mask, plane, order=0) != 0
    return SliceInput(cut(image, plane, order=0), marked, plane, np.ones(plane.shape, dtype=bool))


def cut_to_mask(slice: SliceInput, margin_mm: float) -> SliceInput:
    """Keep the mask and `margin_mm` around it, and nothing else.

    The box is the mask's, grown by ceil(margin / spacing) pixels on each side, whether or not these lie
    in the scan, so that its shape does not tell where the scan ends. Pixels further than the margin from
    the nearest mask pixel (Euclidean, between centres) and pixels outside the scan are 0 and not valid.

    Args:
        slice: any slice; not changed.
        margin_mm: at least 0.

    Raises:
        ValueError: a margin that is negative or not finite.
    """
    if not (math.isfinite(margin_mm) and margin_mm >= 0):
        raise ValueError(f"expected margin_mm of at least 0, got {margin_mm}")
    spacing_mm = slice.plane.pixel_spacing_mm
    window: list[int] = []
    for axis, pixel_mm in enumerate(spacing_mm):
        marked = np.flatnonzero(slice.mask.any(axis=1 - axis))
        # The tolerance keeps a margin of exactly n pixels from growing to n + 1 by rounding.
        pad = math.ceil((margin_mm - _MARGIN_TOLERANCE_MM) / pixel_mm)
        window += [int(marked[0]) - pad, int(marked[-1]) + 1 + pad]
    mask = _window(slice.mask, window)
    distance_mm = ndimage.distance_transform_edt(~mask, sampling=spacing_mm)
    valid = _window(slice.valid, window) & (distance_mm <= margin_mm + _MARGIN_TOLERANCE_MM)
    image = np.where(valid, _window(slice.image, window), np.float32(0))
    return SliceInput(image, mask, slice.plane.window(*window), valid)


def _window(values: AnyArray, window: list[int]) -> AnyArray:
    """Return an array's window (row_start, row_stop, col_start, col_stop), 0 beyond the array."""
    row_start, row_stop, col_start, col_stop = window
    padding = [
        (max(0, -start), max(0, stop - n))
        for start, stop, n in zip((row_start, col_start), (row_stop, col_stop), values.shape, strict=True)
    ]
    padded = np.pad(values, padding)
    row, col = row_start + padding[0][0], col_start + padding[1][0]
    return padded[row : row + row_stop - row_start, col : col + col_stop - col_start]
