"""Truth: an organ's label volume and surface, and what every comparison with them needs, computed once."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from sam3d_objects.arrays import BoolArray, FloatArray, IntArray
from sam3d_objects.evaluation.surface_elements import SurfaceElements, point_tree, surface_elements
from sam3d_objects.mesh import Mesh, sample_surface
from sam3d_objects.volume import Volume, box_of

CHAMFER_POINTS = 10_000
_TRUTH_SEED = 20_240  # the truth's points are drawn once; a prediction's come from another seed


@dataclass(frozen=True, eq=False)
class VoxelBox:
    """A mask that keeps to the voxels that it needs, somewhere on an endless grid.

    Args:
        mask: (i, j, k) bool, may be empty of True.
        start: (3,) int64, the grid's voxel index of `mask[0, 0, 0]`; may be negative.
        affine: (4, 4) float64, voxel index of `mask` -> patient mm.
        note: what is odd about the mesh that was filled; empty otherwise.
    """

    mask: BoolArray
    start: IntArray
    affine: FloatArray
    note: str = ""

    @classmethod
    def of_grid(cls, mask: BoolArray, grid_affine: FloatArray) -> "VoxelBox":
        """Cut a mask (I, J, K) on a grid to the box of its voxels; an empty one keeps one voxel."""
        box = box_of(mask) if mask.any() else (slice(0, 1),) * 3
        start = np.array([side.start for side in box], dtype=np.int64)
        return cls(np.ascontiguousarray(mask[box]), start, shifted(grid_affine, start))

    def shared_with(self, other: "VoxelBox") -> int:
        """How many voxels two boxes of one grid share."""
        low = np.maximum(self.start, other.start)
        high = np.minimum(self.start + self.mask.shape, other.start + other.mask.shape)
        if (high <= low).any():
            return 0
        mine, theirs = (
            box.mask[tuple(slice(a, b) for a, b in zip(low - box.start, high - box.start, strict=True))]
            for box in (self, other)
        )
        return int(np.count_nonzero(mine & theirs))


def shifted(affine: FloatArray, start: IntArray) -> FloatArray:
    """The affine (4, 4) of the grid whose voxel 0 is voxel `start` (3,) of the grid of `affine`."""
    moved = np.array(affine, dtype=np.float64)
    moved[:3, 3] += moved[:3, :3] @ start
    return moved


@dataclass(frozen=True, eq=False)
class Truth:
    """One organ of one patient.

    Args:
        label: (I, J, K) bool on the scan's grid or a part of it.
        mesh: the organ's surface, patient mm.
        diagonal_mm: diagonal of the scan's own, uncut grid: what a failed case scores as a distance.

    Raises:
        ValueError: when the label or the mesh is empty: there is nothing to be scored against.
    """

    label: Volume
    mesh: Mesh
    diagonal_mm: float

    def __post_init__(self) -> None:
        if not self.label.voxels.any():
            raise ValueError("truth: expected a label with at least one voxel, got an empty one")
        if self.mesh.is_empty:
            raise ValueError("truth: expected a surface with faces, got an empty mesh")

    @cached_property
    def box(self) -> VoxelBox:
        """The label, cut to its voxels."""
        return VoxelBox.of_grid(np.asarray(self.label.voxels, dtype=bool), self.label.affine)

    @cached_property
    def voxels(self) -> int:
        """How many voxels the organ has."""
        return int(np.count_nonzero(self.box.mask))

    @property
    def volume_ml(self) -> float:
        """Volume of those voxels, ml."""
        return self.voxels * self.label.voxel_volume_mm3 / 1000

    @cached_property
    def elements(self) -> SurfaceElements:
        """The label's surface elements."""
        return surface_elements(self.box.mask, self.box.affine)

    @cached_property
    def points_mm(self) -> FloatArray:
        """(CHAMFER_POINTS, 3) float64, area-uniform on the mesh, always the same ones."""
        return sample_surface(self.mesh, CHAMFER_POINTS, np.random.default_rng(_TRUTH_SEED))[0]

    @cached_property
    def point_tree(self) -> Any:
        """A scipy cKDTree over `points_mm`."""
        return point_tree(self.points_mm)
