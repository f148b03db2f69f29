"""Voxelise: which voxels a surface touches, and which a closed surface holds."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sam3d_objects.arrays import BoolArray, FloatArray
from sam3d_objects.mesh.mesh import Mesh
from sam3d_objects.mesh.rays import expand_ranges
from sam3d_objects.mesh.winding import grid_windings

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
    fraction = np.zeros(shape, dtype=np.float32)
    for place, winding in grid_windings(mesh, affine, shape, supersample):
        fraction[place] += np.count_nonzero(winding, axis=3)
    fraction /= supersample**3
    return fraction


def inside(mesh: Mesh, affine: npt.ArrayLike, shape: tuple[int, ...]) -> BoolArray:
    """(I, J, K) bool: whether each voxel's centre is inside a closed mesh. Raises as `solid_fraction`."""
    return solid_fraction(mesh, affine, shape) > 0.5
