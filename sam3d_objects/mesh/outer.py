"""Outer surface: what is left of a mesh without the surfaces inside it.

A decoder on a shell of voxels closes that shell on both sides: beside the organ's surface it makes a second one,
wound the other way, where the shell ends inside the organ.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from sam3d_objects.arrays import BoolArray, FloatArray, IntArray
from sam3d_objects.mesh.mesh import Mesh

_SPECK = 0.01  # of the largest part's volume
_VOTERS = 5  # vertices that say whether their part is enclosed: odd


def outer_surface(mesh: Mesh) -> Mesh:
    """Keep the connected parts (of faces, by shared vertices) that no other part encloses, without specks.

    A part is enclosed where most of some vertices spread over it have a winding number of at least one half about a
    part with more volume; that is decided for open parts too. A speck encloses less than 1 % of the volume of the
    largest part.

    Args:
        mesh: in any frame; need not be closed.

    Returns:
        the faces of those parts, in their order and with their winding, and the vertices that they use; an empty mesh
        for one.
    """
    if mesh.is_empty:
        return Mesh(np.zeros((0, 3)), np.zeros((0, 3), dtype=np.int64))
    label = _face_parts(mesh)
    order = np.argsort(label, kind="stable")
    parts = np.split(order, np.cumsum(np.bincount(label))[:-1])
    volumes = np.abs(_volumes(mesh, label))
    large = [part for part in np.argsort(-volumes, kind="stable") if volumes[part] >= _SPECK * volumes.max()]
    kept = np.zeros(len(parts), dtype=bool)
    for rank, part in enumerate(large):
        points = _spread(mesh, parts[part])
        kept[part] = not any(_encloses(mesh.triangles[parts[other]], points) for other in large[:rank])
    return _with_faces(mesh, kept[label])


def _face_parts(mesh: Mesh) -> IntArray:
    """(F,) the connected part of each face, 0, 1, ..."""
    start, end = mesh.faces[:, [0, 1]].ravel(), mesh.faces[:, [1, 2]].ravel()
    count = len(mesh.vertices)
    graph = sparse.coo_matrix((np.ones(len(start), dtype=np.int8), (start, end)), shape=(count, count))
    _, vertex_part = csgraph.connected_components(graph, directed=False)
    part: IntArray = np.unique(vertex_part[mesh.faces[:, 0]], return_inverse=True)[1].ravel()
    return part


def _volumes(mesh: Mesh, label: IntArray) -> FloatArray:
    """Signed volume of each part, by the divergence theorem."""
    corners = mesh.triangles - mesh.vertices.mean(axis=0)
    sixfold = np.einsum("fi,fi->f", corners[:, 0], np.cross(corners[:, 1], corners[:, 2]))
    volumes: FloatArray = np.bincount(label, weights=sixfold) / 6
    return volumes


def _spread(mesh: Mesh, faces: IntArray) -> FloatArray:
    """(n, 3) some of the vertices of a part, n at most five."""
    used = np.unique(mesh.faces[faces])
    return mesh.vertices[used[np.linspace(0, len(used) - 1, min(_VOTERS, len(used))).astype(np.int64)]]


def _encloses(triangles: FloatArray, points: FloatArray) -> bool:
    low, high = triangles.min(axis=(0, 1)), triangles.max(axis=(0, 1))
    if ((points < low) | (points > high)).any(axis=1).sum() * 2 > len(points):
        return False
    inside = [abs(winding_number(triangles, point)) >= 0.5 for point in points]
    return sum(inside) * 2 > len(inside)


def winding_number(triangles: FloatArray, point: FloatArray) -> float:
    """How often triangles (F, 3, 3) wind about a point (3,): 1 inside a closed outward surface, 0 outside.

    A sum of solid angles (Van Oosterom and Strackee 1983); a fraction where the surface is open (Jacobson et al. 2013).
    """
    a, b, c = np.moveaxis(triangles - point, 1, 0)
    length_a, length_b, length_c = (np.linalg.norm(side, axis=1) for side in (a, b, c))
    triple = np.einsum("fi,fi->f", a, np.cross(b, c))
    dots = [np.einsum("fi,fi->f", one, two) for one, two in ((a, b), (b, c), (c, a))]
    across = length_a * length_b * length_c + dots[0] * length_c + dots[1] * length_a + dots[2] * length_b
    return float(2 * np.arctan2(triple, across).sum() / (4 * np.pi))


def _with_faces(mesh: Mesh, kept: BoolArray) -> Mesh:
    used, index = np.unique(mesh.faces[kept], return_inverse=True)
    return Mesh(mesh.vertices[used], index.reshape(-1, 3))
