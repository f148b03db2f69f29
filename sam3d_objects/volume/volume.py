"""A grid of voxels and where it lies in the patient: the two are never apart."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sam3d_objects.arrays import AnyArray, FloatArray

GRID_TOLERANCE_VOX = 0.01
"""Two grids are one when no corner of theirs is further apart than this part of the smallest spacing."""


def checked_affine(affine: npt.ArrayLike) -> FloatArray:
    """Return a read-only float64 copy of a (4, 4) affine from indices to RAS millimetres.

    Raises:
        ValueError: it is not 4x4, not finite, its last row is not (0, 0, 0, 1), a spacing is zero, or its
            three directions lie in one plane.
    """
    matrix = np.array(affine, dtype=np.float64)
    if matrix.shape != (4, 4):
        raise ValueError(f"expected a 4x4 affine (index -> RAS mm), got shape {matrix.shape}")
    if not np.isfinite(matrix).all():
        raise ValueError(f"expected a finite affine, got {matrix.tolist()}; correct the scan's header")
    if not np.allclose(matrix[3], (0.0, 0.0, 0.0, 1.0), atol=1e-9):
        raise ValueError(f"expected an affine whose last row is (0, 0, 0, 1), got {matrix[3].tolist()}")
    spacing_mm = np.linalg.norm(matrix[:3, :3], axis=0)
    if (spacing_mm < 1e-9).any():
        raise ValueError(
            f"expected non-zero voxel spacing, got {spacing_mm.tolist()} mm; correct the scan's header"
        )
    # Of the unit directions, so that the threshold does not depend on the spacing.
    if abs(np.linalg.det(matrix[:3, :3] / spacing_mm)) < 1e-6:
        raise ValueError(f"expected three independent voxel directions, got affine {matrix.tolist()}")
    # A volume is shared between samples: an affine changed in place would move all of them.
    matrix.setflags(write=False)
    return matrix


@dataclass(frozen=True, eq=False)
class Volume:
    """A scan or a label map in the orientation of its file.

    Attributes:
        voxels: (I, J, K), any dtype; not copied.
        affine: (4, 4) float64, voxel index (of voxel centres) -> RAS mm; a read-only copy is kept.

    Raises:
        ValueError: `voxels` is not 3D or is empty, or the affine is not one (see `checked_affine`).
    """

    voxels: AnyArray
    affine: FloatArray

    def __post_init__(self) -> None:
        voxels = np.asarray(self.voxels)
        if voxels.ndim != 3 or voxels.size == 0:
            raise ValueError(f"expected a non-empty 3D array of voxels, got shape {voxels.shape}")
        object.__setattr__(self, "voxels", voxels)
        object.__setattr__(self, "affine", checked_affine(self.affine))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along the three axes."""
        i, j, k = self.voxels.shape
        return i, j, k

    @property
    def spacing_mm(self) -> FloatArray:
        """(3,) distance in mm between neighbouring voxel centres along each axis."""
        spacing: FloatArray = np.linalg.norm(self.affine[:3, :3], axis=0)
        return spacing

    @property
    def voxel_volume_mm3(self) -> float:
        """Volume of one voxel in cubic millimetres (right for sheared grids too)."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    @property
    def diagonal_mm(self) -> float:
        """Longest distance in mm between two corners of the grid, from voxel edge to voxel edge."""
        edges_mm = self.affine[:3, :3] * np.array(self.shape)
        signs = np.array([(1, 1, 1), (1, 1, -1), (1, -1, 1), (-1, 1, 1)])
        return float(np.linalg.norm(signs @ edges_mm.T, axis=1).max())

    def voxel_to_mm(self, points: npt.ArrayLike) -> FloatArray:
        """Map voxel indices (N, 3), fractions allowed, to RAS mm (N, 3) float64."""
        return apply_affine(self.affine, points)

    def mm_to_voxel(self, points: npt.ArrayLike) -> FloatArray:
        """Map RAS mm (N, 3) to fractional voxel indices (N, 3) float64."""
        return apply_affine(np.linalg.inv(self.affine), points)

    def with_voxels(self, voxels: npt.NDArray[Any]) -> "Volume":
        """Return other voxels (I, J, K) on the same grid; another shape is a ValueError."""
        if voxels.shape != self.shape:
            raise ValueError(f"expected voxels of shape {self.shape} for this grid, got {voxels.shape}")
        return Volume(voxels, self.affine)


def apply_affine(affine: FloatArray, points: npt.ArrayLike) -> FloatArray:
    """Apply a (4, 4) affine to points (..., 3); returns (..., 3) float64."""
    coordinates = np.asarray(points, dtype=np.float64)
    if coordinates.shape[-1:] != (3,):
        raise ValueError(f"expected points of shape (..., 3), got {coordinates.shape}")
    mapped: FloatArray = coordinates @ affine[:3, :3].T + affine[:3, 3]
    return mapped


def corner_indices(shape: tuple[int, int, int]) -> FloatArray:
    """Return the (8, 3) float64 indices of the corner voxels of a grid of `shape`."""
    corners = np.stack(np.meshgrid(*[(0, n - 1) for n in shape], indexing="ij"), axis=-1)
    return corners.reshape(8, 3).astype(np.float64)


def check_same_grid(image: Volume, label: Volume, where: str) -> None:
    """Check that an image and its label lie on one grid.

    Corners may differ by `GRID_TOLERANCE_VOX` of the smallest spacing, which the rounding of NIfTI's
    float32 affines and quaternions stays far below.

    Args:
        image: the scan.
        label: its label map.
        where: case or file names, for the message.

    Raises:
        ValueError: the shapes or the affines differ.
    """
    if image.shape != label.shape:
        raise ValueError(
            f"{where}: expected image and label of one shape, got image {image.shape} "
            f"and label {label.shape}; resample the label to the image's grid"
        )
    # The difference of two affines is largest at a corner.
    corners = corner_indices(image.shape)
    apart_mm = np.linalg.norm(image.voxel_to_mm(corners) - label.voxel_to_mm(corners), axis=1).max()
    if apart_mm > GRID_TOLERANCE_VOX * image.spacing_mm.min():
        raise ValueError(
            f"{where}: expected image and label of one affine, but their grids lie up to {apart_mm:.4g} mm "
            f"apart (image {image.affine.tolist()}, label {label.affine.tolist()}); resample the label to "
            "the image's grid"
        )
