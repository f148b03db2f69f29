"""Shape only: a prediction without its place and its size, for the metrics that are marked so.

They answer another question than the others do: is it the right shape, wherever it lies and however large it is? A good
one says nothing about whether the organ was found.
"""

import numpy as np

from sam3d_objects.arrays import FloatArray
from sam3d_objects.mesh import Mesh


def moments(mesh: Mesh) -> tuple[float, FloatArray]:
    """Volume (mm3) and centroid (3,) (mm) of what a closed mesh encloses, by the divergence theorem.

    Overlapping parts count as often as they overlap. Eberly, "Polyhedral mass properties (revisited)", 2002: each face
    and a common point make a tetrahedron, whose centroid is the mean of its corners.

    Raises:
        ValueError: when the mesh encloses no volume.
    """
    if mesh.is_empty:
        raise ValueError("the mesh has no faces, so it has no centroid")
    origin = mesh.used_vertices.mean(axis=0)  # near the mesh, for the sake of precision
    corners = mesh.triangles - origin
    volumes = np.einsum("fi,fi->f", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) / 6
    volume = float(volumes.sum())
    if volume == 0:
        raise ValueError("the mesh encloses no volume, so it has no centroid")
    return volume, volumes @ corners.sum(axis=1) / (4 * volume) + origin


def without_place_and_size(mesh: Mesh, truth: Mesh) -> Mesh:
    """Return `mesh` moved and scaled so that its centroid and its volume are those of `truth`; it is not turned.

    Raises:
        ValueError: when one of them encloses no volume.
    """
    volume, center = moments(mesh)
    true_volume, true_center = moments(truth)
    scale = float(np.cbrt(true_volume / volume))
    return Mesh((mesh.vertices - center) * scale + true_center, mesh.faces)
