"""Which voxel axis runs along which patient axis, and the nearest RAS+ order of a volume."""

from itertools import permutations

import numpy as np

from sam3d_objects.arrays import FloatArray
from sam3d_objects.volume.volume import Volume, apply_affine


def voxel_directions(affine: FloatArray) -> FloatArray:
    """Return the (3, 3) unit directions of the voxel axes in RAS, one per COLUMN."""
    directions: FloatArray = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return directions


def shear_degrees(affine: FloatArray) -> float:
    """Return by how many degrees the worst pair of voxel directions misses a right angle."""
    directions = voxel_directions(affine)
    cosines = directions.T @ directions
    worst = np.abs(cosines[np.triu_indices(3, k=1)]).max()
    return float(np.degrees(np.arcsin(min(1.0, worst))))


def nearest_axes(affine: FloatArray) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Pair each patient axis (R, A, S) with its own voxel axis.

    Of the six ways to pair them, the one with the largest product of |cosines| is taken, so that every
    voxel axis is used once and none is paired with a direction at a right angle to it.

    Returns:
        axes: for R, A and S, the voxel axis that runs along it.
        signs: +1 where that voxel axis' index grows towards R, A or S, -1 where it grows away.
    """
    cosines = voxel_directions(affine)
    # Six pairings are few enough to try all; taking the axes greedily can leave two that do not fit.
    best = max(permutations(range(3)), key=lambda axes: _product(cosines, axes))
    signs = [1 if cosines[world, axis] > 0 else -1 for world, axis in enumerate(best)]
    return (best[0], best[1], best[2]), (signs[0], signs[1], signs[2])


def _product(cosines: FloatArray, axes: tuple[int, ...]) -> float:
    return float(np.prod([abs(cosines[world, axis]) for world, axis in enumerate(axes)]))


def to_canonical(volume: Volume) -> Volume:
    """Return the volume with its axes permuted and flipped to the order nearest to RAS+.

    No voxel is interpolated and every voxel keeps its place in the patient; the voxels are a view.
    """
    axes, signs = nearest_axes(volume.affine)
    permuted = volume.affine[:, [*axes, 3]].copy()
    voxels = volume.voxels.transpose(axes)
    first = [0 if sign > 0 else n - 1 for sign, n in zip(signs, voxels.shape, strict=True)]
    # Voxel (0, 0, 0) of the flipped grid is the old first or last voxel along each axis.
    origin_mm = apply_affine(permuted, first)
    permuted[:3, :3] *= np.array(signs)
    permuted[:3, 3] = origin_mm
    return Volume(voxels[tuple(slice(None, None, sign) for sign in signs)], permuted)
