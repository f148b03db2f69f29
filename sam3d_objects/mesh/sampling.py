"""Sampling: random points on a surface, uniform over its area."""

from __future__ import annotations

import numpy as np

from sam3d_objects.arrays import FloatArray, IntArray
from sam3d_objects.mesh.mesh import Mesh


def sample_surface(
    mesh: Mesh, count: int, generator: np.random.Generator
) -> tuple[FloatArray, FloatArray, IntArray]:
    """Draw points uniformly over the area of a mesh.

    Args:
        mesh: with an area above 0; need not be closed.
        count: N, the number of points, at least 0.
        generator: source of the random numbers; the same state gives the same points.

    Returns:
        points: (N, 3) float64; normals: (N, 3) float64 unit normals of their faces; faces: (N,) int64.

    Raises:
        ValueError: on a negative count, or when the mesh is empty or without area.
    """
    if count < 0:
        raise ValueError(f"expected at least 0 points, got {count}")
    cross = mesh.cross
    double_area = np.linalg.norm(cross, axis=1)
    total = double_area.sum()
    if not total > 0:
        raise ValueError(f"cannot sample a mesh without area ({len(mesh.faces)} faces)")
    chosen = generator.random((count, 3))
    faces = np.searchsorted(np.cumsum(double_area), chosen[:, 0] * total, side="right")
    faces = np.minimum(faces, np.flatnonzero(double_area)[-1])  # rounding may step past the last face
    # Uniform in a triangle: Osada et al., "Shape distributions", ACM TOG 21(4), 2002.
    root = np.sqrt(chosen[:, 1])
    weights = np.stack([1 - root, root * (1 - chosen[:, 2]), root * chosen[:, 2]], axis=1)
    points = np.einsum("nc,ncd->nd", weights, mesh.triangles[faces])
    return points, cross[faces] / double_area[faces, None], faces
