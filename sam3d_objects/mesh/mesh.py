"""Mesh: triangles with outward winding, in patient millimetres (RAS) unless a name says otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from sam3d_objects.arrays import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Mesh:
    """A triangle mesh; normals follow the right-hand rule and point out of the solid.

    A mesh without faces is allowed (it stands for "nothing was found"); whoever needs a solid checks
    `is_empty`.

    Args:
        vertices: (V, 3) float64, finite.
        faces: (F, 3) int64 rows of vertex indices, counter-clockwise seen from outside.

    Raises:
        ValueError: on another shape, a non-finite vertex, or a face that names a vertex that is not there.
    """

    vertices: FloatArray
    faces: IntArray

    def __post_init__(self) -> None:
        vertices = np.ascontiguousarray(self.vertices, dtype=np.float64)
        faces = np.ascontiguousarray(self.faces, dtype=np.int64)
        if vertices.ndim != 2 or vertices.shape[1] != 3:
            raise ValueError(f"mesh vertices: expected shape (V, 3), got {vertices.shape}")
        if faces.ndim != 2 or faces.shape[1] != 3:
            raise ValueError(f"mesh faces: expected shape (F, 3), got {faces.shape}")
        if not np.isfinite(vertices).all():
            bad = int(np.flatnonzero(~np.isfinite(vertices).all(axis=1))[0])
            raise ValueError(
                f"mesh vertices: expected finite numbers, number {bad} is {vertices[bad].tolist()}"
            )
        if len(faces) and (faces.min() < 0 or faces.max() >= len(vertices)):
            raise ValueError(
                f"mesh faces: expected indices in 0..{len(vertices) - 1}, got {faces.min()}..{faces.max()}"
            )
        object.__setattr__(self, "vertices", vertices)
        object.__setattr__(self, "faces", faces)

    @property
    def is_empty(self) -> bool:
        """Whether there is no face at all."""
        return len(self.faces) == 0

    @property
    def used_vertices(self) -> FloatArray:
        """(U, 3) float64: the vertices that faces use, in their order; others are no part of the surface."""
        used = np.zeros(len(self.vertices), dtype=bool)
        used[self.faces] = True
        return self.vertices[used]

    @property
    def triangles(self) -> FloatArray:
        """(F, 3, 3) float64: face, corner, coordinate."""
        return self.vertices[self.faces]

    @property
    def cross(self) -> FloatArray:
        """(F, 3) float64: outward normal of each face times twice its area."""
        corners = self.triangles
        return np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])

    @property
    def area(self) -> float:
        """Surface area in squared units (mm2); 0 for an empty mesh."""
        return float(np.linalg.norm(self.cross, axis=1).sum() / 2)

    @property
    def volume(self) -> float:
        """Enclosed volume in cubic units (mm3), by the divergence theorem; negative for inward winding.

        Meaningful only for a closed mesh (`is_watertight`); 0 for an empty one.
        """
        if self.is_empty:
            return 0.0
        corners = self.triangles - self.used_vertices.mean(axis=0)  # near the origin, for the sake of precision
        return float(np.einsum("fi,fi->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) / 6)

    @property
    def bounds(self) -> FloatArray:
        """(2, 3) float64: smallest and largest coordinates of the vertices that faces use.

        Raises:
            ValueError: when the mesh is empty.
        """
        if self.is_empty:
            raise ValueError("an empty mesh has no bounds: check is_empty first")
        used = self.used_vertices
        return np.stack([used.min(axis=0), used.max(axis=0)])

    @cached_property
    def is_watertight(self) -> bool:
        """Whether each directed edge is met by as many in the opposite direction: closed, consistent winding.

        False for an empty mesh.
        """
        if self.is_empty:
            return False
        start = self.faces.ravel()
        end = np.roll(self.faces, -1, axis=1).ravel()
        count = len(self.vertices)
        proper = start != end
        forward, backward = start[proper] * count + end[proper], end[proper] * count + start[proper]
        return bool(np.array_equal(np.sort(forward), np.sort(backward)))

    def flipped(self) -> Mesh:
        """The same triangles with the opposite winding."""
        return Mesh(self.vertices, self.faces[:, ::-1])

    def transformed(self, matrix: npt.ArrayLike) -> Mesh:
        """The mesh under a 4x4 affine; the winding is flipped for a reflection, so that normals stay outward.

        Raises:
            ValueError: when the matrix is not a finite, invertible 4x4 affine.
        """
        affine = np.asarray(matrix, dtype=np.float64)
        if affine.shape != (4, 4) or not np.isfinite(affine).all() or np.linalg.det(affine[:3, :3]) == 0:
            raise ValueError(f"expected a finite, invertible 4x4 affine, got {affine.tolist()}")
        moved = self.vertices @ affine[:3, :3].T + affine[:3, 3]
        faces = self.faces if np.linalg.det(affine[:3, :3]) > 0 else self.faces[:, ::-1]
        return Mesh(moved, faces)

    def vertex_normals(self) -> FloatArray:
        """(V, 3) float64 outward unit normals, weighted by the areas of the faces around; 0 without any."""
        normals = np.zeros_like(self.vertices)
        cross = self.cross
        for corner in range(3):
            np.add.at(normals, self.faces[:, corner], cross)
        length = np.linalg.norm(normals, axis=1, keepdims=True)
        return np.divide(normals, length, out=np.zeros_like(normals), where=length > 0)
