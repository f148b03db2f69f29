"""Rays: signed crossings of vertical lines with triangles, which decide what is inside.

A point is inside where the signed crossings below it do not cancel, so overlapping closed parts are a union
and an inner surface with the opposite winding is a cavity. A triangle's winding about a line is the sum of
antisymmetric crossings of its directed edges (Sunday, "Inclusion of a point in a polygon", 2001), computed
bit for bit alike for both faces of an edge: over a closed mesh the crossings of every line therefore cancel
exactly, also for lines that hit an edge or a vertex, and no jitter is needed. Where they do not cancel, the
mesh is open.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sam3d_objects.arrays import FloatArray, IntArray


def expand_ranges(counts: IntArray) -> tuple[IntArray, IntArray]:
    """(n,) counts -> for each of sum(counts) items, the row that it belongs to and its rank in that row."""
    row = np.repeat(np.arange(len(counts)), counts)
    first = np.cumsum(counts) - counts
    return row, np.arange(len(row)) - first[row]


def ray_crossings(
    vertices: FloatArray, faces: IntArray, x: FloatArray, y: FloatArray
) -> tuple[npt.NDArray[np.int8], FloatArray]:
    """Where the vertical line at (x, y) meets its triangle, for n pairs of a triangle and a line.

    Args:
        vertices: (V, 3) float64.
        faces: (n, 3) int64, one triangle for each pair.
        x, y: (n,) float64.

    Returns:
        sign: (n,) int8: +1 where the line, walking up, enters through a face whose normal points down; -1
            where it leaves; 0 where it misses.
        z: (n,) float64, the height of the crossing; meaningless where sign is 0.
    """
    # Each edge runs from its lower to its higher vertex index, whichever face asks: see the module's
    # docstring.
    start, end = faces, faces[:, [1, 2, 0]]
    reverse = start > end
    low, high = np.where(reverse, end, start), np.where(reverse, start, end)
    flat_x, flat_y, flat_z = vertices.T
    ax, ay = flat_x[low], flat_y[low]
    bx, by = flat_x[high], flat_y[high]
    side = (bx - ax) * (y[:, None] - ay) - (by - ay) * (x[:, None] - ax)
    up = (ay <= y[:, None]) & (by > y[:, None]) & (side > 0)
    down = (ay > y[:, None]) & (by <= y[:, None]) & (side < 0)
    crossing = up.astype(np.int8) - down.astype(np.int8)
    winding = np.where(reverse, -crossing, crossing).sum(axis=1, dtype=np.int8)

    side = np.where(reverse, -side, side)  # twice the area between the point and the edge e -> e + 1
    area = side.sum(axis=1)
    corner_z = flat_z[faces]
    edge_on = area == 0
    weights = side / np.where(edge_on, 1.0, area)[:, None]
    z = weights[:, 0] * corner_z[:, 2] + weights[:, 1] * corner_z[:, 0] + weights[:, 2] * corner_z[:, 1]
    # A triangle seen edge-on interpolates badly; its crossing is still within its own height.
    z = np.clip(np.where(edge_on, corner_z[:, 0], z), corner_z.min(axis=1), corner_z.max(axis=1))
    return -winding, z


def check_closed(total_winding: npt.NDArray[np.integer]) -> None:
    """Raise ValueError when the signed crossings of some line (any shape) do not cancel: the mesh is open."""
    leaving = int(np.count_nonzero(total_winding))
    if leaving:
        raise ValueError(
            f"the mesh is open or its winding is inconsistent: {leaving} of {total_winding.size} rays "
            "leave it with a non-zero winding; repair it (see Mesh.is_watertight) to ask what is inside"
        )
