"""Signed distance: how far points are from a surface (exact, to its triangles), and on which side."""

from __future__ import annotations

from itertools import chain

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from sam3d_objects.arrays import BoolArray, FloatArray
from sam3d_objects.mesh.mesh import Mesh
from sam3d_objects.mesh.rays import check_closed, expand_ranges, ray_crossings

_BLOCK_POINTS = 512
_BLOCK_PAIRS = 20_000_000  # the largest number of point-triangle pairs looked at together


def _as_points(points: npt.ArrayLike) -> FloatArray:
    array = np.asarray(points, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != 3 or not np.isfinite(array).all():
        raise ValueError(f"expected finite points of shape (N, 3), got shape {array.shape}")
    return array


def contains(mesh: Mesh, points: npt.ArrayLike) -> BoolArray:
    """(N,) bool: whether points (N, 3) are inside a closed mesh; overlapping parts are a union.

    Only the triangles of a point's own cell, in a grid over the mesh's first two axes, are asked.

    Raises:
        ValueError: on points of another shape or not finite, or when the mesh is open along a point's ray.
    """
    array = _as_points(points)
    inside = np.zeros(len(array), dtype=bool)
    if mesh.is_empty:
        return inside
    low, high = mesh.bounds
    asked = np.flatnonzero(((array >= low) & (array <= high)).all(axis=1))
    cells = max(1, int(np.sqrt(len(mesh.faces))))
    width = np.maximum(high - low, 1e-12)[:2] / cells

    def cell_of(values: FloatArray) -> npt.NDArray[np.int64]:
        return np.clip(((values[..., :2] - low[:2]) / width).astype(np.int64), 0, cells - 1)

    corners = mesh.triangles
    first = cell_of(corners.min(axis=1))
    span = cell_of(corners.max(axis=1)) - first + 1
    face, rank = expand_ranges(span.prod(axis=1))
    cell = (first[face, 0] + rank // span[face, 1]) * cells + first[face, 1] + rank % span[face, 1]
    order = np.argsort(cell, kind="stable")
    face = face[order]
    begin = np.searchsorted(cell[order], np.arange(cells * cells + 1))

    where = cell_of(array[asked])
    home = where[:, 0] * cells + where[:, 1]
    for block in np.array_split(np.arange(len(asked)), len(asked) // 20_000 + 1):
        counts = begin[home[block] + 1] - begin[home[block]]
        point, rank = expand_ranges(counts)
        triangle = face[begin[home[block]][point] + rank]
        position = array[asked[block]]
        sign, z = ray_crossings(mesh.vertices, mesh.faces[triangle], position[point, 0], position[point, 1])
        check_closed(np.bincount(point, weights=sign, minlength=len(block)).astype(np.int64))
        below = np.where(z <= position[point, 2], sign, 0)
        inside[asked[block]] = np.bincount(point, weights=below, minlength=len(block)) != 0
    return inside


def _squared_distance(points: FloatArray, corners: FloatArray) -> FloatArray:
    """(n,) squared distances of points (n, 3) to triangles (n, 3, 3), degenerate ones included."""
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.einsum("ni,ni->n", normal, normal)
    above = np.einsum("ni,ni->n", normal, points - corners[:, 0])
    over = area > 0
    best = np.full(len(points), np.inf)
    for corner in range(3):
        start = corners[:, corner]
        edge = corners[:, (corner + 1) % 3] - start
        offset = points - start
        over &= np.einsum("ni,ni->n", np.cross(normal, edge), offset) >= 0
        length = np.einsum("ni,ni->n", edge, edge)
        along = np.clip(np.einsum("ni,ni->n", offset, edge) / np.where(length > 0, length, 1.0), 0, 1)
        gap = offset - along[:, None] * edge
        best = np.minimum(best, np.einsum("ni,ni->n", gap, gap))
    return np.where(over, above**2 / np.where(area > 0, area, 1.0), best)


def surface_distance(mesh: Mesh, points: npt.ArrayLike) -> FloatArray:
    """(N,) float64 distances of points (N, 3) to the nearest point of any triangle; the mesh may be open.

    Raises:
        ValueError: on points of another shape or not finite, or when the mesh is empty.
    """
    array = _as_points(points)
    if mesh.is_empty:
        raise ValueError("an empty mesh has no distance to it: check is_empty first")
    corners = mesh.triangles
    centers = corners.mean(axis=1)
    radius = np.linalg.norm(corners - centers[:, None], axis=2).max(axis=1)
    tree = cKDTree(centers)
    result = np.zeros(len(array))
    size = int(np.clip(_BLOCK_PAIRS // len(centers), 1, _BLOCK_POINTS))
    for start in range(0, len(array), size):
        block = array[start : start + size]
        nearest = tree.query(block)[1]
        bound = np.sqrt(_squared_distance(block, corners[nearest]))
        # A nearer triangle has its centre within the bound plus its own radius.
        found = tree.query_ball_point(block, (bound + radius.max()) * (1 + 1e-9), return_sorted=False)
        counts = np.fromiter(map(len, found), dtype=np.int64, count=len(block))
        point = np.repeat(np.arange(len(block)), counts)
        face = np.fromiter(chain.from_iterable(found), dtype=np.int64, count=int(counts.sum()))
        to_center = np.linalg.norm(block[point] - centers[face], axis=1)
        possible = to_center <= (bound[point] + radius[face]) * (1 + 1e-9)
        point, face = point[possible], face[possible]
        squared = np.square(bound)
        np.minimum.at(squared, point, _squared_distance(block[point], corners[face]))
        result[start : start + size] = np.sqrt(squared)
    return result


def signed_distance(mesh: Mesh, points: npt.ArrayLike) -> FloatArray:
    """(N,) float64 distances of points (N, 3) to a closed surface, in the mesh's unit (mm), negative inside.

    Raises:
        ValueError: on points of another shape or not finite, or when the mesh is empty or open.
    """
    distance = surface_distance(mesh, points)
    return np.where(contains(mesh, points), -distance, distance)
