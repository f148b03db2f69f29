"""From a field to a grid: find the solid, centre it, bring it to a span, turn its values into distances."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from sam3d_objects.arrays import BoolArray, FloatArray
from sam3d_objects.synthetic.fields import Field, Float32, log_uniform
from sam3d_objects.volume import box_of

SPAN_RANGE = (0.80, 0.98)

_MIN_VOLUME_SHARE = 0.018
_SCOUT_HALF_WIDTH = 2.1
_SCOUT_RESOLUTION = 20
_REACH_CELLS = 5.0


def fitted(field: Field, generator: np.random.Generator, resolution: int) -> Float32 | None:
    """The solid's field on the final grid, or None where it is empty, too thin or leaves the scouted box.

    A coarse scout finds the box, a finer grid over that box holds the field, and separable cubic
    interpolation, accurate for so smooth a field, brings it onto the final grid at the wanted span and place.
    """
    span = generator.uniform(0.84, 0.955)
    found = _scouted(field)
    if found is None:
        return None
    center, width = found
    fine = max(26, round(0.62 * resolution))
    distance = _as_distance(_evaluate(field, center, width / (fine - 4), fine))
    distance = _as_distance(distance + _surface_noise(generator, fine))
    box = _box(_largest_part(distance > 0))
    if box is None or box[0].min() < 1 or box[1].max() > fine - 2:
        return None
    # Sampling anew shifts the box by up to a voxel, so the placement is corrected until it holds.
    middle, scale = box.mean(axis=0), float(np.ptp(box, axis=0).max() + 1) / (span * resolution)
    for _ in range(3):
        grid = _resampled(distance, middle, scale, resolution)
        grid /= np.float32(scale)
        part = _largest_part(grid > 0)
        box = _box(part)
        if box is None or part.mean() < _MIN_VOLUME_SHARE:
            return None
        reached = (np.ptp(box, axis=0).max() + 1) / resolution
        off_center = box.mean(axis=0) - (resolution - 1) / 2
        if SPAN_RANGE[0] <= reached <= SPAN_RANGE[1] and np.abs(off_center).max() <= 0.5:
            # Crumbs beside the largest part become outside without a jump in the field's size.
            return np.where(part | (grid <= 0), grid, -grid)
        middle, scale = middle + off_center * scale, scale * reached / span
    # The placement never settles for a solid that breaks apart differently each time it is sampled.
    return None


def _scouted(field: Field) -> tuple[FloatArray, float] | None:
    """Centre (3,) and generous width of the solid's largest part; None if it is empty or leaves the scout."""
    cell = 2 * _SCOUT_HALF_WIDTH / _SCOUT_RESOLUTION
    scout = _evaluate(field, np.zeros(3), cell, _SCOUT_RESOLUTION)
    # Half a cell outside counts as inside, so that a part thinner than the scout's cells is not lost.
    box = _box(_largest_part(_as_distance(scout) > -0.5))
    if box is None or box[0].min() < 1 or box[1].max() > _SCOUT_RESOLUTION - 2:
        return None
    center = (box.mean(axis=0) - (_SCOUT_RESOLUTION - 1) / 2) * cell
    return center, float((np.ptp(box, axis=0).max() + 2.5) * cell)


def _evaluate(field: Field, center: FloatArray, cell: float, resolution: int) -> Float32:
    """`field` at the cell centres of a cubic grid (n, n, n) around `center`, in units of `cell`."""
    ticks = (np.arange(resolution) - (resolution - 1) / 2) * cell
    axes = np.meshgrid(*(ticks + c for c in center), indexing="ij")
    points = np.stack(axes).reshape(3, -1).astype(np.float32)
    return (field(points) / np.float32(cell)).astype(np.float32).reshape((resolution,) * 3)


def _as_distance(values: Float32) -> Float32:
    """First-order distance in cells, f / |grad f| (Taubin 1994), saturating smoothly at +-_REACH_CELLS."""
    squared = values * values / np.float32(_REACH_CELLS**2) + np.float32(1e-6)
    for slope in np.gradient(values):
        squared += slope * slope
    return values / np.sqrt(squared)


def _surface_noise(generator: np.random.Generator, resolution: int) -> Float32:
    """Smooth noise (n, n, n) in cells: two octaves, at most four and seven knots a side."""
    noise = np.zeros((resolution,) * 3, np.float32)
    strength = log_uniform(generator, 0.1, 0.8)
    for knots, share in ((4, 1.0), (7, 0.5)):
        coarse = generator.normal(size=(knots + 2,) * 3).astype(np.float32)
        step = (knots - 1) / (resolution - 1)
        noise += np.float32(strength * share) * _resampled(
            coarse, np.full(3, (knots + 1) / 2), step, resolution
        )
    return noise


def _resampled(values: Float32, middle: FloatArray, scale: float, resolution: int) -> Float32:
    """Catmull-Rom interpolation on a grid (R, R, R) whose cells are `scale` wide, centred at `middle`."""
    for axis in range(3):
        weights = _cubic_weights(values.shape[0], middle[axis], scale, resolution)
        values = np.tensordot(values, weights, axes=(0, 0))
    return np.ascontiguousarray(values)


def _cubic_weights(size: int, middle: float, scale: float, resolution: int) -> Float32:
    """Catmull-Rom weights (size, resolution); positions beyond the border take the border's value."""
    position = np.clip(middle + (np.arange(resolution) - (resolution - 1) / 2) * scale, 0, size - 1)
    gap = np.abs(position - np.arange(-1, size + 1)[:, None])
    near = (1.5 * gap - 2.5) * gap * gap + 1
    far = ((-0.5 * gap + 2.5) * gap - 4) * gap + 2
    weights = np.where(gap < 1, near, np.where(gap < 2, far, 0.0))
    # The two knots beyond the border repeat the border's.
    weights[1] += weights[0]
    weights[-2] += weights[-1]
    return weights[1:-1].astype(np.float32)


def _largest_part(inside: BoolArray) -> BoolArray:
    """The largest face-connected part of `inside` (all False where there is none)."""
    labels, count = ndimage.label(inside)
    if count <= 1:
        return inside
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return labels == sizes.argmax()


def _box(inside: BoolArray) -> FloatArray | None:
    """First and last index per axis (2, 3) of the True voxels; None where there are none."""
    if not inside.any():
        return None
    return np.array([(side.start, side.stop - 1) for side in box_of(inside)], dtype=np.float64).T
