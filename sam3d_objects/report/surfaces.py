"""Surfaces: two meshes made small enough for a page, and how far each point of one lies from the other."""

from dataclasses import dataclass

import numpy as np
import trimesh
from scipy.spatial import cKDTree

from sam3d_objects.arrays import AnyArray, FloatArray, IntArray

FACES_SHOWN = 10_000
"""Of each surface: with six cases the report stays under 10 MB, and a phone still turns them."""

_GROWTH = 1.12


@dataclass(frozen=True, eq=False)
class Surface:
    """A mesh to look at.

    Args:
        vertices: (V, 3) float64, patient mm, RAS.
        faces: (F, 3) int64.
        distance_mm: (V,) float64, signed: positive where the prediction reaches beyond the true organ, negative
            where it falls short; NaN where there is no other surface.
    """

    vertices: FloatArray
    faces: IntArray
    distance_mm: FloatArray


def compared_surfaces(
    predicted: tuple[AnyArray, AnyArray] | None, truth: tuple[AnyArray, AnyArray] | None
) -> tuple[Surface | None, Surface | None]:
    """Both surfaces decimated, each with its distances to the other one.

    The sign comes from the true surface's normals on the prediction, and from the prediction's on the truth, so that
    both say the same: red is too much, blue is too little.

    Args:
        predicted, truth: vertices (V, 3) mm and faces (F, 3), or None.

    Returns:
        the predicted and the true surface; None for one that is not there, is empty or is not finite.
    """
    meshes = [_mesh(arrays) for arrays in (predicted, truth)]
    small = [None if mesh is None else decimated(mesh, FACES_SHOWN) for mesh in meshes]
    found: list[Surface | None] = []
    for own, other, sign in ((0, 1, 1.0), (1, 0, -1.0)):
        mesh, rival = small[own], meshes[other]
        if mesh is None:
            found.append(None)
            continue
        points = np.asarray(mesh.vertices, dtype=np.float64)
        distance_mm = np.full(len(points), np.nan) if rival is None else sign * signed_distance(points, rival)
        found.append(Surface(points, np.asarray(mesh.faces, dtype=np.int64), distance_mm))
    return found[0], found[1]


def _mesh(arrays: tuple[AnyArray, AnyArray] | None) -> trimesh.Trimesh | None:
    if arrays is None or not len(arrays[1]) or not np.isfinite(arrays[0]).all():
        return None
    return trimesh.Trimesh(arrays[0].astype(np.float64), arrays[1].astype(np.int64), process=False)


def signed_distance(points: FloatArray, mesh: trimesh.Trimesh) -> FloatArray:
    """(N,) mm from points (N, 3) to a surface, positive outside.

    The surface stands as its vertices and face centres, so a distance is too large by at most half the edge of a
    triangle squared over twice itself; the sign is that of the nearest one's normal.
    """
    targets = np.concatenate([mesh.vertices, mesh.triangles_center])
    normals = np.concatenate([mesh.vertex_normals, mesh.face_normals])
    distance_mm, nearest = cKDTree(targets).query(points)
    outside = np.einsum("nd,nd->n", points - targets[nearest], normals[nearest]) >= 0
    return np.where(outside, distance_mm, -distance_mm)


def decimated(mesh: trimesh.Trimesh, faces: int) -> trimesh.Trimesh:
    """The mesh with at most `faces` faces, by vertex clustering (Rossignac and Borrel, 1993).

    All vertices of a grid cell become their mean; cells grow until the faces that are left are few enough.
    """
    if len(mesh.faces) <= faces:
        return mesh
    # A cell of a surface leaves about two triangles.
    size_mm = float(np.sqrt(2 * mesh.area / faces)) or 1e-3
    while True:
        small = _clustered(mesh, size_mm)
        if len(small.faces) <= faces:
            return small
        size_mm *= _GROWTH


def _clustered(mesh: trimesh.Trimesh, size_mm: float) -> trimesh.Trimesh:
    cells = np.floor((mesh.vertices - mesh.vertices.min(axis=0)) / size_mm).astype(np.int64)
    _, cluster = np.unique(cells, axis=0, return_inverse=True)
    cluster = cluster.reshape(-1)
    size = np.bincount(cluster)
    means = np.stack([np.bincount(cluster, weights=mesh.vertices[:, axis]) / size for axis in range(3)], axis=1)
    faces = cluster[mesh.faces]
    corners = np.sort(faces, axis=1)
    whole = (corners[:, 0] != corners[:, 1]) & (corners[:, 1] != corners[:, 2])
    _, first, count = np.unique(corners[whole], axis=0, return_index=True, return_counts=True)
    # Two faces with the same corners are the two sides of what has become too thin to have an inside.
    return trimesh.Trimesh(means, faces[whole][np.sort(first[count % 2 == 1])], process=False)
