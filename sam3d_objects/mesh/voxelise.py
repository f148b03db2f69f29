"""Voxelise: which voxels a surface touches, and which a closed surface holds."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sam3d_objects.arrays import BoolArray, FloatArray, IntArray
from sam3d_objects.mesh.mesh import Mesh
from sam3d_objects.mesh.rays import check_closed, expand_ranges, ray_crossings

_EDGE = 0.5 - 1e-6  # the far face of the unit box lies on index R: points are clamped into the last voxel
_CHUNK_PAIRS = 500_000


def object_grid_affine(resolution: int) -> FloatArray:
    """(4, 4) float64: index in an R^3 grid -> object coordinates of the cell centre, (i + 0.5) / R - 0.5."""
    affine = np.diag([1 / resolution] * 3 + [1.0])
    affine[:3, 3] = 0.5 / resolution - 0.5
    return affine


def _touching_box(corners: FloatArray) -> BoolArray:
    """Whether triangles (n, 3, 3) meet the closed cube [-1, 1]^3, by separating axes (Akenine-Moller, 2001).

    The cube's own axes are left to the caller, which offers only cubes of the triangle's bounding box.
    """
    slack = 1 + 1e-9  # errs towards "touches": a surface voxel must not be missed
    first = corners[:, 1] - corners[:, 0]
    normal = np.cross(first, corners[:, 2] - corners[:, 0])
    distance = np.abs(np.einsum("ni,ni->n", normal, corners[:, 0]))
    touching = distance <= np.abs(normal).sum(axis=1) * slack
    near = corners[touching].transpose(2, 1, 0)  # (coordinate, corner, n): contiguous along n
    kept = np.ones(near.shape[2], dtype=bool)
    for corner in range(3):
        edge = near[:, (corner + 1) % 3] - near[:, corner]
        # Along the cross product of an edge and an axis, both ends of the edge project to one point.
        ends = near[:, corner], near[:, (corner + 2) % 3]
        for axis in range(3):
            one, two = (axis + 1) % 3, (axis + 2) % 3
            a, b = (edge[one] * end[two] - edge[two] * end[one] for end in ends)
            radius = (np.abs(edge[one]) + np.abs(edge[two])) * slack
            kept &= (np.minimum(a, b) <= radius) & (np.maximum(a, b) >= -radius)
    touching[touching] = kept
    return touching


def surface_voxels(mesh_object: Mesh, resolution: int) -> npt.NDArray[np.int32]:
    """Every voxel of the R^3 grid over [-0.5, 0.5]^3 that the surface touches, by an exact triangle-box test.

    Voxel i spans [i / R - 0.5, (i + 1) / R - 0.5], its faces included: a triangle that lies on the face
    between two voxels touches both. Vertices beyond the box are clamped to 0.5 - 1e-6, as the release does.

    Args:
        mesh_object: in object coordinates; need not be closed.
        resolution: R, above 0.

    Returns:
        (N, 3) int32, unique, sorted by i, then j, then k; (0, 3) for an empty mesh.
    """
    scaled = (np.clip(mesh_object.vertices, -_EDGE, _EDGE) + 0.5) * resolution
    found = [np.zeros(0, dtype=np.int64)]
    corners = scaled[mesh_object.faces]
    low = np.maximum(np.ceil(corners.min(axis=1) - 1).astype(np.int64), 0)
    high = np.minimum(np.floor(corners.max(axis=1)).astype(np.int64), resolution - 1)
    span = high - low + 1
    counts = span.prod(axis=1)
    # A large triangle has many candidate voxels: bounded chunks keep the memory flat.
    chunk = np.cumsum(counts) // _CHUNK_PAIRS
    for part in np.unique(chunk):
        rows = np.flatnonzero(chunk == part)
        row, rank = expand_ranges(counts[rows])
        face = rows[row]
        width = span[face]
        across, deep = width[:, 1], width[:, 2]
        cell = low[face] + np.stack([rank // (across * deep), rank // deep % across, rank % deep], axis=1)
        touched = cell[_touching_box((corners[face] - (cell[:, None] + 0.5)) * 2)]
        found.append(np.unique(np.ravel_multi_index(tuple(touched.T), (resolution,) * 3)))
    flat = np.unique(np.concatenate(found))
    return np.stack(np.unravel_index(flat, (resolution,) * 3), axis=1).astype(np.int32)


def _filled(vertices: FloatArray, faces: IntArray, shape: tuple[int, ...], steps: int) -> BoolArray:
    """Insides of a mesh in index coordinates on (I, J, K * steps) points, `steps` a voxel on the last axis.

    The points of voxel k are k + (m + 0.5) / steps - 0.5; along i and j they are the voxels' centres.

    Raises:
        ValueError: when a ray leaves the mesh with a non-zero winding, so that it is open.
    """
    rows, cols, depth = shape[0], shape[1], shape[2] * steps
    corners = vertices[faces]
    low = np.maximum(np.ceil(corners[:, :, :2].min(axis=1)), 0).astype(np.int64)
    high = np.minimum(np.floor(corners[:, :, :2].max(axis=1)), (rows - 1, cols - 1)).astype(np.int64)
    span = np.maximum(high - low + 1, 0)
    face, rank = expand_ranges(span.prod(axis=1))
    width = span[face, 1]
    i, j = low[face, 0] + rank // np.maximum(width, 1), low[face, 1] + rank % np.maximum(width, 1)
    sign, z = ray_crossings(vertices, faces[face], i.astype(np.float64), j.astype(np.float64))
    hit = sign != 0
    # The first point that is not below the crossing; the extra last cell holds what no point is above.
    first = np.clip(np.ceil((z[hit] + 0.5) * steps - 0.5), 0, depth).astype(np.int64)
    index = (i[hit] * cols + j[hit]) * (depth + 1) + first
    change = np.bincount(index, weights=sign[hit], minlength=rows * cols * (depth + 1))
    winding = np.cumsum(change.reshape(rows, cols, depth + 1).astype(np.int32), axis=2)
    check_closed(winding[:, :, -1])
    return winding[:, :, :-1] != 0


def solid_fraction(
    mesh: Mesh, affine: npt.ArrayLike, shape: tuple[int, ...], supersample: int = 1
) -> npt.NDArray[np.float32]:
    """The share of each voxel of a grid that is inside a closed mesh.

    Args:
        mesh: closed, in the affine's world (patient mm, or object coordinates); overlapping parts are a
            union.
        affine: (4, 4) voxel index -> world, any handedness.
        shape: (I, J, K) of the grid; the mesh may reach beyond it.
        supersample: each voxel is asked at supersample^3 points, spread evenly; 1 is the centre rule.

    Returns:
        (I, J, K) float32 in [0, 1]; all 0 for an empty mesh.

    Raises:
        ValueError: when the mesh is open along a ray of the grid, on a shape that is not three positive
            sizes, or on a supersample below 1.
    """
    if len(shape) != 3 or min(shape) < 1 or supersample < 1:
        raise ValueError(f"expected three sizes and a supersample above 0, got {shape} and {supersample}")
    fraction = np.zeros(shape, dtype=np.float32)
    if mesh.is_empty:
        return fraction
    to_index = np.linalg.inv(np.asarray(affine, dtype=np.float64))
    vertices = mesh.vertices @ to_index[:3, :3].T + to_index[:3, 3]
    used = vertices[mesh.faces.ravel()]
    # Only the voxels around the mesh: a scan's grid is much larger than an organ.
    start = np.clip(np.floor(used.min(axis=0)), 0, shape).astype(np.int64)
    stop = np.clip(np.ceil(used.max(axis=0)) + 1, start, shape).astype(np.int64)
    box = tuple(int(size) for size in stop - start)
    if 0 in box:
        return fraction
    part = fraction[start[0] : stop[0], start[1] : stop[1], start[2] : stop[2]]
    offsets = (np.arange(supersample) + 0.5) / supersample - 0.5
    for i in offsets:
        for j in offsets:
            solid = _filled(vertices - start - (i, j, 0.0), mesh.faces, box, supersample)
            part += solid.reshape(*box, supersample).sum(axis=3, dtype=np.float32)
    part /= supersample**3
    return fraction


def inside(mesh: Mesh, affine: npt.ArrayLike, shape: tuple[int, ...]) -> BoolArray:
    """(I, J, K) bool: whether each voxel's centre is inside a closed mesh. Raises as `solid_fraction`."""
    return solid_fraction(mesh, affine, shape) > 0.5
