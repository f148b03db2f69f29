"""Volumes on other grids."""

import math

import numpy as np
import numpy.typing as npt

from sam3d_objects.arrays import FloatArray
from sam3d_objects.volume.interpolate import check_order, interpolate, value_dtype
from sam3d_objects.volume.orientation import voxel_directions
from sam3d_objects.volume.volume import Volume, apply_affine, corner_indices

_TOLERANCE_VOX = 1e-3


def resample(volume: Volume, spacing_mm: npt.ArrayLike, order: int = 1) -> Volume:
    """Resample a volume to another spacing, along the same directions.

    The new grid covers the old one from edge to edge and has its centre. A sheared volume comes out
    orthogonal, along the nearest orthonormal directions, on a grid that holds all of it (0 outside it).
    Handedness is kept. No smoothing precedes a coarser grid.

    Args:
        volume: any real or bool dtype.
        spacing_mm: one number, or one for each voxel axis.
        order: 0 nearest voxel (labels), 1 trilinear.

    Raises:
        ValueError: a spacing that is not finite and above zero, or another order.
    """
    target_mm = np.broadcast_to(np.asarray(spacing_mm, dtype=np.float64), (3,))
    if not (np.isfinite(target_mm).all() and (target_mm > 0).all()):
        raise ValueError(f"expected spacing_mm above zero, got {target_mm.tolist()}")
    directions = _nearest_orthonormal(voxel_directions(volume.affine))
    edges = corner_indices((2, 2, 2)) * np.array(volume.shape) - 0.5
    along_mm = volume.voxel_to_mm(edges) @ directions
    extent_mm = np.ptp(along_mm, axis=0)
    shape = np.maximum(1, np.ceil(extent_mm / target_mm - _TOLERANCE_VOX)).astype(int)
    affine = np.eye(4)
    affine[:3, :3] = directions * target_mm
    middle_mm = directions @ (along_mm.min(axis=0) + along_mm.max(axis=0)) / 2
    affine[:3, 3] = middle_mm - affine[:3, :3] @ ((shape - 1) / 2)
    return _on_grid(volume, affine, (int(shape[0]), int(shape[1]), int(shape[2])), order, 0.0)


def resample_like(volume: Volume, reference: Volume, order: int, cval: float = 0.0) -> Volume:
    """Resample a volume to the grid of `reference`; `cval` where the volume does not reach.

    Args:
        volume: any real or bool dtype.
        reference: the grid (its voxels are not looked at).
        order: 0 nearest voxel (labels), 1 trilinear.
        cval: value outside `volume`.
    """
    return _on_grid(volume, reference.affine, reference.shape, order, cval)


def _on_grid(
    volume: Volume, affine: FloatArray, shape: tuple[int, int, int], order: int, cval: float
) -> Volume:
    check_order(order)
    grid_to_voxel = np.linalg.inv(volume.affine) @ affine
    voxels = np.empty(shape, dtype=value_dtype(volume.voxels.dtype, order))
    plane = np.moveaxis(np.indices(shape[1:]), 0, -1)
    # One sheet at a time: the coordinates of a whole scan would take twelve times its memory.
    for i in range(shape[0]):
        indices = np.concatenate([np.full((*shape[1:], 1), i), plane], axis=-1)
        voxels[i] = interpolate(volume.voxels, apply_affine(grid_to_voxel, indices), order, cval)
    return Volume(voxels, affine)


def _nearest_orthonormal(directions: FloatArray) -> FloatArray:
    """Return the orthonormal (3, 3) nearest to unit columns (polar decomposition); its handedness is kept."""
    u, singular, vt = np.linalg.svd(directions)
    if math.isclose(singular[0], singular[2], rel_tol=1e-9):
        return directions
    orthonormal: FloatArray = u @ vt
    return orthonormal
