"""Lead a surface through the edge of the mask that was given: in its slice, the organ is known.

The fit (fit.py) moves and scales whole samples, so that a difference is left between the surface's cut and the mask.
Here the surface is moved by that difference, less the farther it is from the slice. Letters: I x J x K the patient
grid, S signed distances in mm, positive inside.
"""

import math

import numpy as np
from scipy import ndimage

from sam3d_objects.arrays import BoolArray, FloatArray, IntArray
from sam3d_objects.mesh import Mesh, main_parts, surface_from_field
from sam3d_objects.mesh.edge import center_distances_mm, signed_distances_mm
from sam3d_objects.reconstruct.field import MAX_GRID_CELLS, PatientField
from sam3d_objects.volume import SlicePlane, apply_affine

# Shares of the surface's longest side: how far from the slice the mask still counts (a standard deviation), and the
# most that the surface is moved, so that a part of the organ that the model knows nothing of does not become a disc.
FADE = 0.05
REACH = 0.10
# Standard deviation, in sides of a pixel, by which what is missing is smoothed in the plane: the steps of a mask's edge
# would become ribs of the surface. Surfaces of masks (mesh/surface.py) are smoothed by as much.
SMOOTH = 0.7


def surface_through_mask(field: PatientField, threshold: float, mask: BoolArray, plane: SlicePlane) -> Mesh:
    """Return the surface of a field above a threshold, moved so that its cut through a slice is the mask.

    With S the signed distance from the field's own surface, M the mask's in its plane, and q the foot of a point p on
    that plane, at the distance d, the surface is where

        S(p) + exp(-d^2 / (2 (FADE L)^2)) G[clip(M - S, -REACH L, REACH L)](q) = 0

    G smooths in the plane, and L is the surface's longest side.

    Args:
        field: (I, J, K) in [0, 1], of even cells.
        threshold: in (0, 1).
        mask: (rows, cols) bool, the organ in the slice. One that meets the image's border says nothing of what lies
            beyond, where the surface then stays. One that the surface misses altogether, or that has no edge, leaves
            all of it as it is.
        plane: of the slice.

    Returns:
        closed, patient mm.

    Raises:
        ValueError: nothing is above the threshold.
    """
    solid = main_parts(field.values, threshold)
    marked = apply_affine(np.linalg.inv(field.affine) @ plane.affine, np.argwhere(mask[:, :, None]))
    if mask.all() or not (_sampled(solid, marked) > threshold).any():
        return field.mesh(threshold)
    cells = np.argwhere(solid > threshold)
    length_mm = float(np.ptp(cells, axis=0).max() + 1) * _cell_mm(field.affine)
    values, affine = _grid(solid, field.affine, marked, min(plane.pixel_spacing_mm), REACH * length_mm)
    distances = _field_distances(values, threshold, _cell_mm(affine))
    pixels = apply_affine(np.linalg.inv(plane.affine) @ affine, np.indices(values.shape).reshape(3, -1).T)
    near = np.abs(pixels[:, 2]) < 4 * FADE * length_mm
    if mask[[0, -1]].any() or mask[:, [0, -1]].any():
        near &= (np.abs(pixels[:, :2] - (np.array(mask.shape) - 1) / 2) <= np.array(mask.shape) / 2).all(axis=1)
    if not near.any():
        return field.mesh(threshold)
    pixels = pixels[near]
    weight = np.exp(-0.5 * np.square(pixels[:, 2] / (FADE * length_mm)))
    missing_mm = _missing(distances, affine, mask, plane, pixels[:, :2], REACH * length_mm)
    distances.reshape(-1)[near] += weight * missing_mm
    return surface_from_field(main_parts(distances, 0.0), 0.0, affine)


def _missing(
    distances: FloatArray, affine: FloatArray, mask: BoolArray, plane: SlicePlane, pixels: FloatArray, most_mm: float
) -> FloatArray:
    """G[clip(M - S)] at places (N, 2) in pixels, from S on its grid."""
    low, high = np.floor(pixels.min(axis=0)).astype(int), np.ceil(pixels.max(axis=0)).astype(int) + 1
    spacing_mm = np.array(plane.pixel_spacing_mm)
    steps = np.rint(2 * spacing_mm / spacing_mm.min()).astype(int)  # of a pixel: short and even ones
    given_mm = _mask_distances(mask, spacing_mm, steps, low, high)
    rows, cols = np.indices(given_mm.shape)
    places = np.stack([rows / steps[0] + low[0], cols / steps[1] + low[1], np.zeros(rows.shape)], axis=-1)
    own_mm = _sampled(distances, apply_affine(np.linalg.inv(affine) @ plane.affine, places.reshape(-1, 3)))
    missing_mm = (given_mm - own_mm.reshape(given_mm.shape)).clip(-most_mm, most_mm)
    smooth_steps = SMOOTH * spacing_mm.min() / (spacing_mm / steps)
    return _sampled(ndimage.gaussian_filter(missing_mm, smooth_steps, mode="nearest"), (pixels - low) * steps)


def _grid(
    values: FloatArray, affine: FloatArray, marked: FloatArray, pixel_mm: float, most_mm: float
) -> tuple[FloatArray, FloatArray]:
    """A grid widened to where a surface may be moved to, and its cells divided until a pixel has one; its affine.

    The mask's pixels lie at its indices `marked`, (N, 3).
    """
    spare = math.ceil(most_mm / _cell_mm(affine)) + 1
    before = np.ceil(1 - marked.min(axis=0)).clip(1, spare).astype(int)
    after = np.ceil(marked.max(axis=0) + 2 - values.shape).clip(1, spare).astype(int)
    wide = np.pad(values, list(zip(before, after, strict=True)))
    parts = max(1, min(math.ceil(_cell_mm(affine) / pixel_mm), MAX_GRID_CELLS // max(wide.shape)))
    found = affine.copy()
    found[:3, 3] -= affine[:3, :3] @ before
    found[:3, :3] /= parts
    shape = (np.array(wide.shape) - 1) * parts + 1
    return ndimage.zoom(wide, shape / wide.shape, order=1), found


def _cell_mm(affine: FloatArray) -> float:
    return float(np.linalg.norm(affine[:3, 0]))


def _field_distances(values: FloatArray, level: float, cell_mm: float) -> FloatArray:
    """Signed distances from {values > level}: beside the surface by the field's slope, farther off by whole cells."""
    distances = signed_distances_mm(values > level, np.full(3, cell_mm))
    slope = np.sqrt(sum(np.square(part) for part in np.gradient(values, cell_mm)))
    by_slope = ((values - level) / np.maximum(slope, 1e-6)).clip(-cell_mm, cell_mm)
    return np.where(np.abs(distances) < cell_mm, by_slope, distances)


def _mask_distances(
    mask: BoolArray, spacing_mm: FloatArray, steps: IntArray, low: IntArray, high: IntArray
) -> FloatArray:
    """Signed distances in mm from a mask's edge, at some steps of a pixel, from pixel `low` to before `high`."""
    before, after = np.maximum(0, -low), np.maximum(0, high - mask.shape)
    padded = np.pad(mask, list(zip(before, after, strict=True)), mode="edge")
    rows, cols = (slice(*ends) for ends in zip(low + before, high + before, strict=True))
    # The edge runs halfway between pixels, which may be long and narrow: on even steps it has one distance from both.
    between = center_distances_mm(padded, spacing_mm)[rows, cols]
    shape = (high - low - 1) * steps + 1
    return signed_distances_mm(ndimage.zoom(between, shape / between.shape, order=1) > 0, spacing_mm / steps)


def _sampled(values: FloatArray, places: FloatArray) -> FloatArray:
    """Values at index places (N, D), linearly; beyond the border as there."""
    sampled: FloatArray = ndimage.map_coordinates(values, places.T, order=1, mode="nearest")
    return sampled
