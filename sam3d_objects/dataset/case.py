"""A prepared case: its scan, its masks and surfaces, and raw slices by native voxel index."""

import math
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from sam3d_objects.arrays import AnyArray, BoolArray, FloatArray
from sam3d_objects.dataset.manifest import CaseEntry, OrganEntry
from sam3d_objects.dataset.soft_mask import soft_mask
from sam3d_objects.dataset.storage import load_organ, load_volume
from sam3d_objects.files import nearest
from sam3d_objects.mesh import Mesh
from sam3d_objects.volume import (
    SliceInput,
    SlicePlane,
    Volume,
    apply_affine,
    cut,
    inside_scan,
    through_plane_axis,
    voxel_plane,
)

_QUANTILES = 2001  # steps of 0.05 %, so the usual percentiles (0.5, 1, 2, 98, 99, 99.5) are met exactly


class PreparedCase:
    """One case of a prepared folder; files are read when they are needed and then kept.

    Args:
        data_root: the prepared folder.
        entry: the case's entry in the manifest.
    """

    def __init__(self, data_root: Path, entry: CaseEntry) -> None:
        self.entry = entry
        self.id = entry.id
        self.patient = entry.patient
        self.organs = tuple(entry.organs)
        self._folder = Path(data_root) / "cases" / entry.id
        self._organs: dict[str, tuple[Volume, Mesh]] = {}
        self._soft: dict[str, tuple[FloatArray, float]] = {}

    @cached_property
    def nbytes(self) -> int:
        """About how much memory the case takes once it is read."""
        voxels = sum(math.prod(_box_shape(organ)) for organ in self.entry.organs.values())
        return 4 * math.prod(self.entry.shape) + 8 * voxels

    @cached_property
    def native_affine(self) -> FloatArray:
        """(4, 4) float64: native voxel index -> RAS mm."""
        return np.array(self.entry.native_affine, dtype=np.float64)

    @cached_property
    def affine(self) -> FloatArray:
        """(4, 4) float64: index of a stored voxel -> RAS mm."""
        return self._affine_from(self.entry.crop_offset_vox)

    @cached_property
    def _stored(self) -> tuple[Volume, float, float]:
        # Kept in 16 bits: only the pixels of a slice are ever turned into float32.
        voxels, slope, intercept = load_volume(self._folder)
        return Volume(voxels, self.affine), slope, intercept

    @property
    def image(self) -> Volume:
        """The scan, (I, J, K) float32: native orientation, cropped from ``entry.crop_offset_vox`` on."""
        volume, slope, intercept = self._stored
        return volume.with_voxels(_scaled(volume.voxels, slope, intercept))

    @cached_property
    def reference(self) -> FloatArray:
        """(2001,) float64 quantiles of the scan: percentiles of these are the scan's, at little cost."""
        volume, slope, intercept = self._stored
        return np.quantile(volume.voxels, np.linspace(0, 1, _QUANTILES)) * slope + intercept

    def mesh(self, organ: str) -> Mesh:
        """The organ's surface, patient mm."""
        return self._organ(organ)[1]

    def box_mask(self, organ: str) -> Volume:
        """The organ's mask on its own box and one voxel around it, (I, J, K) bool."""
        return self._organ(organ)[0]

    def label(self, organ: str) -> Volume:
        """The organ's mask on the grid of `image`, (I, J, K) bool."""
        return self._paste(organ, self.entry.shape, self.entry.crop_offset_vox)

    def native_label(self, organ: str) -> Volume:
        """The organ's mask on the whole scan's own grid, (I, J, K) bool."""
        return self._paste(organ, self.entry.native_shape, (0, 0, 0))

    def plane(self, plane_name: str, slice_index: int) -> SlicePlane:
        """The pixels of a slice that are stored.

        Args:
            plane_name: 'axial', 'coronal' or 'sagittal'.
            slice_index: native voxel index along the plane's through-plane axis.

        Raises:
            ValueError: an unknown plane, or an index outside what is stored.
        """
        first = self.first_index(plane_name)
        plane = voxel_plane(self._stored[0], plane_name, slice_index - first)
        return replace(plane, slice_index=slice_index)

    def first_index(self, plane_name: str) -> int:
        """Native voxel index of the first stored slice of a plane."""
        return self.entry.crop_offset_vox[through_plane_axis(self.affine, plane_name)]

    def slice(self, organ: str, plane_name: str, slice_index: int) -> SliceInput:
        """The raw slice with the organ marked on it; not yet cut to the field of view.

        Args:
            organ: structure name.
            plane_name: 'axial', 'coronal' or 'sagittal'.
            slice_index: native voxel index along the plane's through-plane axis.

        Raises:
            ValueError: an unknown organ or plane, an index outside what is stored, or no organ on that slice.
        """
        return self.cut(organ, self.plane(plane_name, slice_index))

    def cut(self, organ: str, plane: SlicePlane, warp: FloatArray | None = None) -> SliceInput:
        """The raw slice of any plane, through the scan as it is or warped.

        Args:
            organ: structure name.
            plane: patient mm.
            warp: (4, 4) affine of patient space that moves scan and organ before they are cut; voxels are
                then interpolated linearly, and so is the mask (see `soft_mask`).

        Raises:
            ValueError: no organ on that slice.
        """
        return self.cut_image(plane, self.cut_mask(organ, plane, warp), warp)

    def cut_mask(self, organ: str, plane: SlicePlane, warp: FloatArray | None = None) -> BoolArray:
        """The mask alone of `cut`, (rows, cols) bool; it may be empty."""
        mask = self.box_mask(organ)
        if warp is None:
            return cut(mask, plane, order=0)
        if organ not in self._soft:
            self._soft[organ] = soft_mask(mask.voxels)
        field, level = self._soft[organ]
        marked: BoolArray = cut(Volume(field, warp @ mask.affine), plane, order=1) >= level
        return marked

    def cut_image(self, plane: SlicePlane, marked: BoolArray, warp: FloatArray | None = None) -> SliceInput:
        """The slice of `cut` for a mask (rows, cols) that is there already; a ValueError if it is empty."""
        stored, slope, intercept = self._stored
        if warp is not None:
            stored = Volume(stored.voxels, warp @ stored.affine)
        # The window of a plane may leave the scan.
        valid = inside_scan(stored, plane)
        values = _scaled(cut(stored, plane, order=0 if warp is None else 1), slope, intercept)
        return SliceInput(np.where(valid, values, np.float32(0)), marked & valid, plane, valid)

    def _organ(self, organ: str) -> tuple[Volume, Mesh]:
        if organ not in self._organs:
            if organ not in self.entry.organs:
                raise ValueError(
                    f"case {self.id} has no {organ!r}; it has {', '.join(self.organs)}.{nearest(organ, self.organs)}"
                )
            entry = self.entry.organs[organ]
            mask, mesh = load_organ(self._folder, self.organs.index(organ), _box_shape(entry))
            # One empty voxel around it, so that what is interpolated falls off on every side.
            first = entry.box_vox[0]
            affine = self._affine_from((first[0] - 1, first[1] - 1, first[2] - 1))
            self._organs[organ] = Volume(np.pad(mask, 1), affine), mesh
        return self._organs[organ]

    def _paste(self, organ: str, shape: tuple[int, int, int], offset_vox: tuple[int, int, int]) -> Volume:
        mask = self.box_mask(organ).voxels[1:-1, 1:-1, 1:-1]
        first, last = self.entry.organs[organ].box_vox
        voxels = np.zeros(shape, dtype=bool)
        voxels[tuple(slice(a - o, b + 1 - o) for a, b, o in zip(first, last, offset_vox, strict=True))] = mask
        return Volume(voxels, self._affine_from(offset_vox))

    def _affine_from(self, first_vox: tuple[int, int, int]) -> FloatArray:
        affine = self.native_affine.copy()
        affine[:3, 3] = apply_affine(affine, first_vox)
        return affine


def _box_shape(organ: OrganEntry) -> tuple[int, int, int]:
    first, last = organ.box_vox
    return last[0] - first[0] + 1, last[1] - first[1] + 1, last[2] - first[2] + 1


def _scaled(values: AnyArray, slope: float, intercept: float) -> FloatArray:
    if (slope, intercept) == (1.0, 0.0):
        return values.astype(np.float32)
    return (values * slope + intercept).astype(np.float32)
