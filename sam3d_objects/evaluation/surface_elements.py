"""Surface elements of a mask: where its boundary runs and how much area each piece of it stands for.

The definition is that of Nikolov et al., "Deep learning to achieve clinically applicable segmentation of head and neck
anatomy" (arXiv 1809.04430), whose metrics weigh each boundary point by area: around each corner of the voxel grid the
eight voxels that meet there are on or off, marching cubes (Lorensen and Cline, 1987) puts up to five triangles between
them, and their area belongs to that corner. Corners whose eight voxels agree carry no surface.
"""

from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from sam3d_objects.arrays import BoolArray, FloatArray

_LEAF = 32  # points a leaf; queries take 1.4 times as long with scipy's 10
_TRIANGLES = 5  # marching cubes puts at most five triangles into a cell


@cache
def _area_vectors() -> FloatArray:
    """(256, 5, 3) area vectors (half the cross product) of the triangles of each corner code, in voxels.

    Bit 4 i + 2 j + k of a code is the voxel at offset (i, j, k) from the corner. A code of more than four voxels has
    the surface of its complement, which settles the ambiguous ones symmetrically.
    """
    from skimage.measure import marching_cubes

    vectors = np.zeros((256, _TRIANGLES, 3))
    for code in range(1, 255):
        solid = code if code.bit_count() <= 4 else 255 - code
        cell = np.array([(solid >> bit) & 1 for bit in range(8)], dtype=np.float32).reshape(2, 2, 2)
        vertices, faces, _, _ = marching_cubes(cell, 0.5, method="lorensen")
        corners = vertices[faces].astype(np.float64)
        vectors[code, : len(faces)] = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]) / 2
    return vectors


def code_areas_mm2(linear: FloatArray) -> FloatArray:
    """(256,) surface area of each corner code, mm2; the columns of `linear` (3, 3) are the voxel axes, mm."""
    cofactor = np.linalg.det(linear) * np.linalg.inv(linear).T  # how a linear map turns area vectors
    return np.linalg.norm(_area_vectors() @ cofactor.T, axis=2).sum(axis=1)


@dataclass(frozen=True, eq=False)
class SurfaceElements:
    """The pieces of a mask's surface.

    Args:
        points_mm: (S, 3) float64, the grid corners that carry surface, patient mm.
        areas_mm2: (S,) float64, above 0.
    """

    points_mm: FloatArray
    areas_mm2: FloatArray

    @cached_property
    def tree(self) -> Any:
        """A scipy cKDTree over the points; built once."""
        return point_tree(self.points_mm)

    def distances_to_mm(self, other: "SurfaceElements") -> FloatArray:
        """(S,) distance of each element to the nearest element of `other`; infinity where `other` has none."""
        if not len(other.points_mm):
            return np.full(len(self.points_mm), np.inf)
        return np.asarray(other.tree.query(self.points_mm)[0], dtype=np.float64)


def point_tree(points_mm: FloatArray) -> Any:
    """A scipy cKDTree over points (N, 3), built for few queries rather than for the fastest ones."""
    from scipy.spatial import cKDTree

    return cKDTree(points_mm, leafsize=_LEAF, balanced_tree=False, compact_nodes=False)


def tree_distances_mm(tree: Any, other: Any) -> FloatArray:
    """(N,) distance of each point of one tree to the nearest point of the other, in the tree's own order.

    Points that lie together are asked together, which takes two thirds of the time of a random order.
    """
    return np.asarray(other.query(tree.data[tree.indices])[0], dtype=np.float64)


def surface_elements(mask: BoolArray, affine: FloatArray) -> SurfaceElements:
    """The surface elements of a mask (I, J, K) bool with its affine (4, 4), voxel index -> patient mm.

    A mask that touches the border of its array is closed there. An empty mask has no elements (S = 0).
    """
    # Two voxels along the last axis make two bits, two such pairs along the middle one four, two of these eight.
    codes: npt.NDArray[np.uint8] = np.pad(mask, 1).view(np.uint8)
    codes = codes[:, :, :-1] | np.left_shift(codes[:, :, 1:], 1, dtype=np.uint8)
    codes = codes[:, :-1] | np.left_shift(codes[:, 1:], 2, dtype=np.uint8)
    codes = codes[:-1] | np.left_shift(codes[1:], 4, dtype=np.uint8)
    flat = codes.ravel()
    surface = np.flatnonzero((flat != 0) & (flat != 255))
    # Corner c of the padded array lies between voxels c - 1 and c of the given one.
    corners = np.stack(np.unravel_index(surface, codes.shape), axis=1) - 0.5
    points_mm = corners @ affine[:3, :3].T + affine[:3, 3]
    return SurfaceElements(points_mm, code_areas_mm2(affine[:3, :3])[flat[surface]])
