"""Gentle affine warps of patient space: scan, mask and surface move together, and are then cut."""

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from sam3d_objects.arrays import BoolArray, FloatArray, IntArray
from sam3d_objects.dataset.case import PreparedCase
from sam3d_objects.dataset.slices import slice_areas
from sam3d_objects.volume import SlicePlane, apply_affine, through_plane_axis

# Organs of people differ by more than this, scanners and positioning by less; no shape becomes implausible.
MAX_ROTATION_DEGREES = 10.0
SCALES = (0.88, 1.14)
MAX_SHEAR = 0.08
_MOST_POINTS = 20_000


def random_warp(generator: np.random.Generator, center_mm: FloatArray, allow_mirror: bool = False) -> FloatArray:
    """A small random affine of patient space that leaves `center_mm` where it is.

    A scale along each patient axis (log-uniform in `SCALES`), then three shears (up to `MAX_SHEAR`), then a
    rotation about a random axis (up to `MAX_ROTATION_DEGREES`).

    Args:
        generator: the source of randomness.
        center_mm: (3,) patient mm.
        allow_mirror: whether half of the warps also swap left and right. A left organ then becomes a right
            one.

    Returns:
        (4, 4) float64, patient mm -> patient mm.
    """
    scale = np.exp(generator.uniform(np.log(SCALES[0]), np.log(SCALES[1]), size=3))
    shear = np.eye(3)
    shear[np.triu_indices(3, 1)] = generator.uniform(-MAX_SHEAR, MAX_SHEAR, size=3)
    axis = generator.normal(size=3)
    angle = np.radians(generator.uniform(0, MAX_ROTATION_DEGREES))
    mirror = np.diag([-1.0 if allow_mirror and generator.random() < 0.5 else 1.0, 1.0, 1.0])
    matrix = np.eye(4)
    rotation = Rotation.from_rotvec(angle * axis / np.linalg.norm(axis)).as_matrix()
    matrix[:3, :3] = rotation @ shear @ np.diag(scale) @ mirror
    matrix[:3, 3] = center_mm - matrix[:3, :3] @ center_mm
    return matrix


@dataclass(frozen=True)
class SliceTable:
    """The slices of a (warped) organ in one plane.

    Attributes:
        first: the plane of the first slice: its window holds the organ and the margin.
        step_mm: (3,) from a slice to the next.
        areas: (N,) area of each slice in voxels; of a warped organ about so, and up to a factor.
    """

    first: SlicePlane
    step_mm: FloatArray
    areas: IntArray

    def plane(self, number: int) -> SlicePlane:
        """The plane of slice `number`, 0 being the first."""
        affine = self.first.affine.copy()
        affine[:3, 3] += number * self.step_mm
        index = None if self.first.slice_index is None else self.first.slice_index + number
        return SlicePlane(self.first.name, affine, self.first.shape, index)


def slice_table(
    case: PreparedCase, organ: str, plane_name: str, warp: FloatArray | None, margin_mm: float | None
) -> SliceTable:
    """Find an organ's slices in one plane of the scan's own voxel lattice.

    Args:
        case, organ: whose.
        plane_name: 'axial', 'coronal' or 'sagittal'.
        warp: (4, 4) affine of patient space, or None.
        margin_mm: what a slice must show around the organ; None keeps everything that is stored.
    """
    base = case.plane(plane_name, case.first_index(plane_name))
    axis = through_plane_axis(case.affine, plane_name)
    step_mm = case.affine[:3, axis]
    if warp is None:
        first_index, areas = slice_areas(case, organ, plane_name)
    else:
        first_index, areas = _warped_areas(case, organ, axis, warp)
    # A warped organ may reach beyond the scan's first or last slice: the lattice goes on there.
    table = SliceTable(base, step_mm, areas)
    base = table.plane(first_index - case.first_index(plane_name))
    mask = case.box_mask(organ)
    to_mm = mask.affine if warp is None else warp @ mask.affine
    pixels = base.mm_to_pixel(apply_affine(to_mm, _column_ends(mask.voxels)))[:, :2]
    low, high = np.floor(pixels.min(axis=0)), np.ceil(pixels.max(axis=0)) + 1
    if margin_mm is None:
        low, high = np.minimum(low, 0), np.maximum(high, base.shape)
    else:
        # One pixel more for the half voxel that an interpolated mask gains, one for a mask that is grown.
        pad = np.ceil(margin_mm / np.array(base.pixel_spacing_mm)) + 2
        low, high = low - pad, high + pad
    window = base.window(int(low[0]), int(high[0]), int(low[1]), int(high[1]))
    return SliceTable(window, step_mm, areas)


def _column_ends(mask: BoolArray) -> IntArray:
    """First and last voxel of each column of the last axis, (N, 3): any affine map is extreme at one."""
    i, j = np.nonzero(mask.any(axis=2))
    first = mask[i, j].argmax(axis=1)
    last = mask.shape[2] - 1 - mask[i, j, ::-1].argmax(axis=1)
    return np.concatenate([np.stack([i, j, first], axis=1), np.stack([i, j, last], axis=1)])


def _warped_areas(case: PreparedCase, organ: str, axis: int, warp: FloatArray) -> tuple[int, IntArray]:
    """Native index of the first slice that the warped organ meets, and the voxel centres nearest to each."""
    mask = case.box_mask(organ)
    points = np.argwhere(mask.voxels)
    # Areas only weigh slices against each other, so a part of a large organ's voxels is enough.
    points = points[:: max(1, len(points) // _MOST_POINTS)]
    moved = apply_affine(np.linalg.inv(case.native_affine) @ warp @ mask.affine, points)[:, axis]
    index = np.rint(moved).astype(np.int64)
    return int(index.min()), np.bincount(index - index.min())
