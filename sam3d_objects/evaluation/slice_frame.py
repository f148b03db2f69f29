"""Slice frame: a cubic grid around a marked slice, in which the baselines learn what lies before and behind it.

Its origin is the centroid of the mask, its axes are the slice camera's (image left, image up, away from the viewer),
its unit is the millimetre: nothing but the slice is needed to place it, at training and at test alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from sam3d_objects.arrays import FloatArray, IntArray
from sam3d_objects.mesh.edge import signed_distances_mm
from sam3d_objects.volume import (
    PLANES,
    SliceInput,
    Volume,
    apply_affine,
    cut,
    through_plane_axis,
    voxel_plane,
)

SIZE = 36
_REACH = 0.9  # of the longest training organ, to each side: a slice of a quarter of the largest area is not at its tip
_CLIP = 0.15  # of that length: further from the surface, a distance says nothing more about the shape
_SMALLEST_SHARE = 0.25  # of the largest slice's area, as for the slices that are scored
_SLICES = 8
_MAX_ORGANS = 60  # more add time and memory, hardly accuracy
_MAX_SIDE_VOX = 80  # finer voxels than this say nothing on the slice grid


@dataclass(frozen=True)
class SliceGrid:
    """The size of the grid, shared by all slices of an organ.

    Args:
        step_mm: distance of neighbouring grid points.
        clip_mm: signed distances are clipped to this.
        size: S, points along each side.
    """

    step_mm: float
    clip_mm: float
    size: int = SIZE

    @classmethod
    def for_length(cls, length_mm: float) -> "SliceGrid":
        """The grid for organs whose longest side is `length_mm` at most; it holds them from any slice of theirs."""
        return cls(2 * _REACH * length_mm / SIZE, _CLIP * length_mm)

    @property
    def offsets_mm(self) -> FloatArray:
        """(S,) float64 positions of the grid points along an axis."""
        return (np.arange(self.size) - (self.size - 1) / 2) * self.step_mm

    def affine(self, axes: FloatArray, center_mm: FloatArray) -> FloatArray:
        """(4, 4) grid index -> patient mm, for axes (3, 3) in rows and a centre (3,)."""
        affine = np.eye(4)
        affine[:3, :3] = axes.T * self.step_mm
        affine[:3, 3] = center_mm + axes.T @ np.full(3, self.offsets_mm[0])
        return affine

    def of_slice(self, slice: SliceInput) -> FloatArray:
        """(4, 4) grid index -> patient mm, for the grid around a slice's mask."""
        return self.affine(slice.plane.camera_axes, mask_center_mm(slice))

    def mask_distances(self, slice: SliceInput) -> FloatArray:
        """(S, S) float32 signed distance to the mask's edge in the slice, mm, above 0 inside, clipped.

        The first axis is the camera's x (image left), the second its y (image up).
        """
        spacing_mm = slice.plane.pixel_spacing_mm
        pad = [int(np.ceil(self.clip_mm / spacing)) + 1 for spacing in spacing_mm]
        distances = signed_distances_mm(np.pad(slice.mask, [(n, n) for n in pad]), spacing_mm).astype(np.float32)
        # Grid points (a, b) in the plane -> (row, col) of the padded mask.
        matrix = np.linalg.inv(slice.plane.affine) @ self.of_slice(slice)
        middle = matrix @ np.array([0, 0, (self.size - 1) / 2, 1])
        sampled = ndimage.affine_transform(
            np.clip(distances, -self.clip_mm, self.clip_mm),
            matrix[:2, :2],
            offset=middle[:2] + pad,
            output_shape=(self.size, self.size),
            order=1,
            mode="constant",
            cval=-self.clip_mm,
        )
        return sampled.astype(np.float32)


def mask_center_mm(slice: SliceInput) -> FloatArray:
    """(3,) float64, the centroid of a slice's mask, patient mm."""
    return slice.plane.pixel_to_mm(np.argwhere(slice.mask).mean(axis=0, keepdims=True))[0]


@dataclass(frozen=True, eq=False)
class DistanceField:
    """A training organ as a signed distance field, mm, above 0 inside, on its own voxels and clip_mm around."""

    volume: Volume
    clip_mm: float

    @classmethod
    def of_label(cls, label: Volume, clip_mm: float) -> "DistanceField":
        """The field of a label (I, J, K) bool, clipped to +- clip_mm."""
        pad = [int(np.ceil(clip_mm / spacing)) + 1 for spacing in label.spacing_mm]
        mask = np.pad(np.asarray(label.voxels, dtype=bool), [(n, n) for n in pad])
        affine = label.affine.copy()
        affine[:3, 3] = apply_affine(label.affine, -np.array(pad, dtype=np.float64))
        distances = signed_distances_mm(mask, label.spacing_mm).astype(np.float32)
        return cls(Volume(np.clip(distances, -clip_mm, clip_mm), affine), clip_mm)

    def on(self, affine: FloatArray, shape: tuple[int, int, int]) -> FloatArray:
        """float32 of `shape`: the field at the points of a grid, index -> patient mm."""
        matrix = np.linalg.inv(self.volume.affine) @ affine
        return ndimage.affine_transform(
            self.volume.voxels,
            matrix[:3, :3],
            offset=matrix[:3, 3],
            output_shape=shape,
            order=1,
            mode="constant",
            cval=-self.clip_mm,
        )


@dataclass(frozen=True, eq=False)
class PlaneExamples:
    """Training slices of one plane.

    Args:
        masks: (N, SIZE, SIZE) float32, `SliceGrid.mask_distances` of each.
        shapes: (N, SIZE, SIZE, SIZE) float16, the organ's signed distance in the frame of each slice, mm.
        areas_mm2: (N,) float64, the mask's area.
        slices: the slices themselves (their images are 0: the baselines look at masks alone).
        organ: (N,) int64, from which training organ each one is.
    """

    masks: FloatArray
    shapes: FloatArray
    areas_mm2: FloatArray
    slices: tuple[SliceInput, ...]
    organ: IntArray


def label_slice(label: Volume, plane_name: str, index: int) -> SliceInput | None:
    """Slice `index` of a label as a baseline sees it (the image is 0); None where the label is not on it."""
    plane = voxel_plane(label, plane_name, index)
    mask = cut(label, plane, order=0) != 0
    if not mask.any():
        return None
    return SliceInput(np.zeros(plane.shape, dtype=np.float32), mask, plane, np.ones(plane.shape, dtype=bool))


def training_indices(label: Volume, plane_name: str, count: int = _SLICES) -> list[int]:
    """The largest slice of a label and others of at least a quarter of its area, evenly spread, `count` at most."""
    axis = through_plane_axis(label.affine, plane_name)
    areas = np.count_nonzero(label.voxels, axis=tuple(other for other in range(3) if other != axis))
    usable = np.flatnonzero(areas >= _SMALLEST_SHARE * areas.max())
    spread = usable[np.linspace(0, len(usable) - 1, min(count, len(usable))).round().astype(int)]
    return sorted({int(index) for index in spread} | {int(areas.argmax())})


def chosen_organs(count: int) -> list[int]:
    """Which of `count` training organs are used: all, or 60 evenly chosen."""
    chosen: list[int] = np.unique(np.linspace(0, count - 1, _MAX_ORGANS).round().astype(int)).tolist()
    return chosen


@dataclass(frozen=True, eq=False)
class TrainingShapes:
    """The training organs, and slices through them.

    Args:
        grid: the grid of their slice frames.
        fields: one for each organ.
        centers_mm: centre of each organ's box, patient mm, each (3,).
        examples: plane name -> slices.
        length_mm: the longest side of any organ's box.
    """

    grid: SliceGrid
    fields: tuple[DistanceField, ...]
    centers_mm: tuple[FloatArray, ...]
    examples: dict[str, PlaneExamples]
    length_mm: float

    @classmethod
    def from_labels(cls, labels: Sequence[Volume]) -> "TrainingShapes":
        """Learn from labels (I, J, K) bool of one organ of training patients.

        Of many labels 60 are used, evenly chosen; large ones are thinned to every n-th voxel.

        Raises:
            ValueError: without labels, or with an empty one.
        """
        if not labels:
            raise ValueError("a baseline needs at least one training label, got none")
        labels = [thinned(labels[number]) for number in chosen_organs(len(labels))]
        boxes = [_box_mm(label) for label in labels]
        length_mm = max(float((high - low).max()) for low, high in boxes)
        grid = SliceGrid.for_length(length_mm)
        fields = tuple(DistanceField.of_label(label, grid.clip_mm) for label in labels)
        examples = {name: _examples(labels, fields, grid, name) for name in PLANES}
        return cls(grid, fields, tuple((low + high) / 2 for low, high in boxes), examples, length_mm)


def thinned(label: Volume) -> Volume:
    """Every n-th voxel along each axis of a label (I, J, K), n so small that no side has more than `_MAX_SIDE_VOX`."""
    steps = [-(-side // _MAX_SIDE_VOX) for side in label.shape]
    affine = label.affine @ np.diag([*steps, 1.0])
    return Volume(np.asarray(label.voxels, dtype=bool)[:: steps[0], :: steps[1], :: steps[2]], affine)


def _box_mm(label: Volume) -> tuple[FloatArray, FloatArray]:
    """Corners of the box around a label's voxel centres, patient mm, half a voxel wider on each side."""
    marked = np.argwhere(label.voxels)
    if not len(marked):
        raise ValueError("a training label is empty; leave its case out")
    points_mm = label.voxel_to_mm(marked)
    half_mm = np.abs(label.affine[:3, :3]).sum(axis=1) / 2
    return points_mm.min(axis=0) - half_mm, points_mm.max(axis=0) + half_mm


def _examples(
    labels: Sequence[Volume], fields: Sequence[DistanceField], grid: SliceGrid, plane_name: str
) -> PlaneExamples:
    slices: list[SliceInput] = []
    organ: list[int] = []
    shapes: list[FloatArray] = []
    for number, (label, field) in enumerate(zip(labels, fields, strict=True)):
        for index in training_indices(label, plane_name):
            slice = label_slice(label, plane_name, index)
            assert slice is not None, "training_indices names slices that show the label"
            slices.append(slice)
            organ.append(number)
            shapes.append(field.on(grid.of_slice(slice), (SIZE,) * 3).astype(np.float16))
    pixel_mm2 = np.array([np.prod(slice.plane.pixel_spacing_mm) for slice in slices])
    areas_mm2 = pixel_mm2 * [int(slice.mask.sum()) for slice in slices]
    masks = np.stack([grid.mask_distances(slice) for slice in slices])
    return PlaneExamples(masks, np.stack(shapes), areas_mm2, tuple(slices), np.array(organ, dtype=np.int64))
