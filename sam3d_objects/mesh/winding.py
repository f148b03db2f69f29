"""Winding: how often a closed surface winds about the points of a grid, which says what is inside and what is odd.

Winding numbers are exact integers (see rays.py): 0 outside, 1 inside an outward surface. Where two sheets of a closed
surface cross, the four regions around the crossing have three consecutive winding numbers, so one of them is neither 0
nor 1: a surface that crosses itself shows, as far as the grid has points in that region.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sam3d_objects.arrays import FloatArray, IntArray
from sam3d_objects.mesh.mesh import Mesh
from sam3d_objects.mesh.rays import check_closed, expand_ranges, ray_crossings

_CHUNK_PAIRS = 500_000  # of a triangle and a line that may meet it
_SLAB_POINTS = 1 << 23

Place = tuple[slice, slice, slice]


@dataclass(frozen=True, eq=False)
class Windings:
    """What the points of a grid say about a closed surface.

    Args:
        fraction: (I, J, K) float32 in [0, 1], the share of each voxel's points that it winds about outward, once
            or more often.
        outward: how many points of the grid that are.
        repeated: how many of them it winds about more than once: parts that overlap.
        inverted: how many points it winds about the other way: parts that are inside out.
    """

    fraction: npt.NDArray[np.float32]
    outward: int
    repeated: int
    inverted: int


def windings(mesh: Mesh, affine: npt.ArrayLike, shape: tuple[int, ...], supersample: int = 1) -> Windings:
    """Ask supersample^3 points of each voxel of a grid how often a closed surface winds about them.

    Args:
        mesh: closed, outward, in the affine's world.
        affine: (4, 4) voxel index -> world, any handedness.
        shape: (I, J, K) of the grid; the mesh may reach beyond it.
        supersample: points along each side of a voxel, spread evenly; 1 is its centre.

    Raises:
        ValueError: as `grid_windings` does.
    """
    fraction = np.zeros(shape, dtype=np.float32)
    outward = repeated = inverted = 0
    for place, winding in grid_windings(mesh, affine, shape, supersample):
        inside = winding > 0
        fraction[place] += inside.sum(axis=3, dtype=np.float32)
        outward += int(np.count_nonzero(inside))
        repeated += int(np.count_nonzero(winding > 1))
        inverted += int(np.count_nonzero(winding < 0))
    fraction /= supersample**3
    return Windings(fraction, outward, repeated, inverted)


def grid_windings(
    mesh: Mesh, affine: npt.ArrayLike, shape: tuple[int, ...], supersample: int = 1
) -> Iterator[tuple[Place, npt.NDArray[np.int32]]]:
    """Yield winding numbers slab by slab, for supersample^2 lines through each column of voxels.

    Args:
        mesh, affine, shape, supersample: as `windings` takes them; the winding may be either way.

    Yields:
        where the slab is in the grid, and (i, j, k, supersample) int32; what is never yielded is 0. A slab comes
        supersample^2 times, once for each line.

    Raises:
        ValueError: when the mesh is open along a line of the grid, on a shape that is not three positive sizes, or on
            a supersample below 1.
    """
    if len(shape) != 3 or min(shape) < 1 or supersample < 1:
        raise ValueError(f"expected three sizes and a supersample above 0, got {shape} and {supersample}")
    if mesh.is_empty:
        return
    to_index = np.linalg.inv(np.asarray(affine, dtype=np.float64))
    vertices = mesh.vertices @ to_index[:3, :3].T + to_index[:3, 3]
    way = 1 if np.linalg.det(to_index[:3, :3]) > 0 else -1  # a left-handed grid sees outward as inward
    low, high = used_bounds(vertices, mesh.faces)
    # Only the voxels around the mesh: a scan's grid is much larger than an organ.
    start = np.clip(np.floor(low), 0, shape).astype(np.int64)
    stop = np.clip(np.ceil(high) + 1, start, shape).astype(np.int64)
    rows, cols, depth = (int(size) for size in stop - start)
    if 0 in (rows, cols, depth):
        return
    height = max(1, _SLAB_POINTS // (cols * depth * supersample))
    across = slice(int(start[1]), int(stop[1])), slice(int(start[2]), int(stop[2]))
    offsets = (np.arange(supersample) + 0.5) / supersample - 0.5
    for first in range(int(start[0]), int(stop[0]), height):
        last = min(first + height, int(stop[0]))
        for i in offsets:
            for j in offsets:
                moved = vertices - (first + i, start[1] + j, start[2])
                winding = _slab_winding(moved, mesh.faces, (last - first, cols, depth * supersample), supersample)
                yield (slice(first, last), *across), way * winding.reshape(last - first, cols, depth, supersample)


def used_bounds(vertices: FloatArray, faces: IntArray) -> FloatArray:
    """(2, D) smallest and largest coordinates of the vertices (V, D) that faces (F, 3), F > 0, use."""
    used = np.zeros(len(vertices), dtype=bool)
    used[faces] = True
    columns = vertices[used].T.copy()  # numpy takes the extremes of a long row ten times as fast as of a column
    return np.stack([columns.min(axis=1), columns.max(axis=1)])


def lines_met(vertices: FloatArray, faces: IntArray) -> tuple[FloatArray, FloatArray]:
    """Which vertical lines of the grid each triangle may meet: the lowest and the highest (i, j), (F, 2) floats each.

    Args:
        vertices: (V, 3) in index coordinates.
        faces: (F, 3).
    """
    a, b, c = (vertices[:, :2].take(faces[:, corner], axis=0) for corner in range(3))
    return np.ceil(np.minimum(np.minimum(a, b), c)), np.floor(np.maximum(np.maximum(a, b), c))


def _slab_winding(
    vertices: FloatArray, faces: IntArray, shape: tuple[int, int, int], steps: int
) -> npt.NDArray[np.int32]:
    """(I, J, K * steps) winding of a mesh in index coordinates about points, `steps` a voxel on the last axis.

    The points of voxel k are k + (m + 0.5) / steps - 0.5; along i and j they are the voxels' centres.
    """
    rows, cols, depth = shape
    low, high = lines_met(vertices, faces)
    low = np.maximum(low, 0).astype(np.int64)
    span = np.maximum(np.minimum(high, (rows - 1, cols - 1)).astype(np.int64) - low + 1, 0)
    counts = span[:, 0] * span[:, 1]
    asked = np.flatnonzero(counts)
    change = np.zeros(rows * cols * (depth + 1), dtype=np.int32)
    chunk = np.cumsum(counts[asked]) // _CHUNK_PAIRS
    # Triangles of a tangled mesh may each cover the grid: bounded chunks keep the memory flat.
    for part in np.split(asked, np.flatnonzero(np.diff(chunk)) + 1):
        row, rank = expand_ranges(counts[part])
        face = part[row]
        width = span[face, 1]
        i, j = low[face, 0] + rank // width, low[face, 1] + rank % width
        sign, z = ray_crossings(vertices, faces[face], i.astype(np.float64), j.astype(np.float64))
        hit = sign != 0
        # The first point that is not below the crossing; the extra last cell holds what no point is above.
        first = np.clip(np.ceil((z[hit] + 0.5) * steps - 0.5), 0, depth).astype(np.int64)
        np.add.at(change, (i[hit] * cols + j[hit]) * (depth + 1) + first, sign[hit].astype(np.int32))
    winding = np.cumsum(change.reshape(rows, cols, depth + 1), axis=2, dtype=np.int32)
    check_closed(winding[:, :, -1])
    return winding[:, :, :-1]
