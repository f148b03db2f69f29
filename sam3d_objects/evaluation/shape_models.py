"""Shape models: the mean and the nearest training organ, slid through the slice until a cut agrees with the mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from sam3d_objects.arrays import BoolArray, FloatArray
from sam3d_objects.evaluation.slice_frame import PlaneExamples, SliceGrid, TrainingShapes, mask_center_mm
from sam3d_objects.mesh import Mesh, main_parts, surface_from_field
from sam3d_objects.volume import SliceInput

_SCALES = np.exp(np.linspace(-0.3, 0.3, 9))
_SCALE_PENALTY = 2.0
"""Dice given up for (log scale)^2: without it a small cut near the tip passes for a large one of a small organ. Between
0.5 and 8 the hippocampi of the Decathlon score within 0.01 of each other.
"""
_OFFSET_PENALTY = 0.05
"""Dice given up for a cut at an organ's end: of cuts that fit alike, the one nearer to the middle errs less. Between 0
and 0.1 the hippocampi score within 0.006 of each other.
"""
_MIN_CUT = 4  # grid points: a smaller cut has no shape
_THRESHOLDS = (0.25, 0.3, 0.35, 0.4, 0.45, 0.5)
_BANK_SIZE = 48
_BANK_REACH = 0.55  # of the longest organ, to each side of its own centre
_FIT_SLICES = 12  # of each plane


def require_plane(plane_name: str, known: Sequence[str]) -> str:
    """Return the plane's name if a baseline was fitted for it; a ValueError says for which it was."""
    if plane_name not in known:
        raise ValueError(f"this baseline was fitted for {', '.join(known)} slices, not for {plane_name} ones")
    return plane_name


@dataclass(frozen=True, eq=False)
class CutBank:
    """Shapes in the camera axes of a plane, and every cut through them, ready to be laid over a mask.

    Args:
        fields: (M, D, D, D) float32, larger inside; the axes are the camera's x, y, z.
        level: the value on the surface.
        step_mm: distance of neighbouring points.
        centers: (M, D, 2) float64, centroid of each cut across the last axis, in points.
        cuts: (M * D, D * D) float32 of 0 and 1: each cut, its centroid moved to the middle.
    """

    fields: FloatArray
    level: float
    step_mm: float
    centers: FloatArray
    cuts: FloatArray

    @classmethod
    def of_fields(cls, fields: FloatArray, level: float, step_mm: float) -> CutBank:
        """Cut each of M fields (M, D, D, D) across its last axis at every point."""
        count, depth = fields.shape[0], fields.shape[3]
        centers = np.zeros((count, depth, 2))
        cuts = np.zeros((count, depth, depth, depth), dtype=np.float32)
        middle = (depth - 1) / 2
        for shape in range(count):
            for w in range(depth):
                solid = fields[shape, :, :, w] > level
                if np.count_nonzero(solid) < _MIN_CUT:
                    continue
                centers[shape, w] = np.argwhere(solid).mean(axis=0)
                moved = ndimage.affine_transform(
                    fields[shape, :, :, w],
                    np.ones(2),
                    offset=centers[shape, w] - middle,
                    output_shape=(depth, depth),
                    order=1,
                    mode="nearest",
                )
                cuts[shape, w] = moved > level
        return cls(fields, level, step_mm, centers, cuts.reshape(count * depth, -1))

    def place(self, slice: SliceInput, distances: FloatArray) -> tuple[FloatArray, FloatArray]:
        """The shape, cut and scale that agree best with a mask.

        Args:
            slice: where the mask lies.
            distances: (D, D) float32 of the mask, `SliceGrid.mask_distances` on a grid of this bank's step
                and size.

        Returns:
            the field (D, D, D) of the chosen shape, and its (4, 4) affine, index -> patient mm.
        """
        middle = (self.fields.shape[3] - 1) / 2
        # The mask shrunk by each scale, instead of every shape grown by it.
        masks = [
            ndimage.affine_transform(distances, np.full(2, scale), offset=middle * (1 - scale), order=1, mode="nearest")
            for scale in _SCALES
        ]
        points = (np.stack(masks, axis=-1) > 0).reshape(-1, len(_SCALES)).astype(np.float32)
        sizes = self.cuts.sum(axis=1)[:, None]
        agreement = 2 * (self.cuts @ points) / np.maximum(sizes + points.sum(axis=0), 1)
        offset = np.tile((np.arange(self.fields.shape[3]) - middle) / middle, len(self.fields))
        penalty = _SCALE_PENALTY * np.log(_SCALES) ** 2 + _OFFSET_PENALTY * offset[:, None] ** 2
        score = np.where(sizes > 0, agreement - penalty, -np.inf)
        best_cut, best_scale = divmod(int(score.argmax()), len(_SCALES))
        shape, w = divmod(best_cut, self.fields.shape[3])
        affine = np.eye(4)
        affine[:3, :3] = slice.plane.camera_axes.T * self.step_mm * _SCALES[best_scale]
        anchor = np.array([*self.centers[shape, w], w])
        affine[:3, 3] = mask_center_mm(slice) - affine[:3, :3] @ anchor
        return self.fields[shape], affine


def bank_grid(shapes: TrainingShapes) -> SliceGrid:
    """A grid that just holds the longest training organ, finer than the slice frame's."""
    return SliceGrid(2 * _BANK_REACH * shapes.length_mm / _BANK_SIZE, shapes.grid.clip_mm, _BANK_SIZE)


def centred_fields(shapes: TrainingShapes, plane_name: str) -> FloatArray:
    """(M, D, D, D) float32 signed distances (mm) of the training organs in a plane's camera axes, each about its
    centre.

    The grid is that of `bank_grid`.
    """
    grid, examples = bank_grid(shapes), shapes.examples[plane_name]
    fields = []
    for number, (field, center_mm) in enumerate(zip(shapes.fields, shapes.centers_mm, strict=True)):
        plane = examples.slices[int(np.flatnonzero(examples.organ == number)[0])].plane
        fields.append(field.on(grid.affine(plane.camera_axes, center_mm), (grid.size,) * 3))
    return np.stack(fields)


@dataclass(frozen=True, eq=False)
class PlacedShape:
    """A predictor: the shape of a bank whose cut agrees best with the mask, moved and scaled onto it.

    Args:
        grid: of the banks.
        banks: plane name -> shapes.
    """

    grid: SliceGrid
    banks: dict[str, CutBank]

    def __call__(self, slice: SliceInput, seed: int) -> Mesh:
        """The mesh in patient mm; nothing is random."""
        bank = self.banks[require_plane(slice.plane.name, tuple(self.banks))]
        field, affine = bank.place(slice, self.grid.mask_distances(slice))
        return surface_from_field(main_parts(field, bank.level), bank.level, affine)


def nearest_shape(shapes: TrainingShapes) -> PlacedShape:
    """The training organ one of whose cuts agrees best with the mask."""
    grid = bank_grid(shapes)
    banks = {name: CutBank.of_fields(centred_fields(shapes, name), 0.0, grid.step_mm) for name in shapes.examples}
    return PlacedShape(grid, banks)


def mean_shape(shapes: TrainingShapes) -> PlacedShape:
    """The mean of the training organs' occupancies about their centres, at the best constant threshold, fitted to the
    mask.

    The threshold is the one with the best mean Dice over training slices of all planes.
    """
    grid = bank_grid(shapes)
    means = {}
    for name in shapes.examples:
        occupancy = np.clip(centred_fields(shapes, name) / grid.step_mm + 0.5, 0, 1)
        means[name] = occupancy.mean(axis=0, dtype=np.float64).astype(np.float32)[None]
    tries = {name: _tries(examples, grid) for name, examples in shapes.examples.items()}
    top = min(float(mean.max()) for mean in means.values())
    candidates = []
    # Organs that hardly overlap about their centres leave no point at the usual thresholds.
    for threshold in [threshold for threshold in _THRESHOLDS if threshold < top] or [top / 2]:
        banks = {name: CutBank.of_fields(mean, threshold, grid.step_mm) for name, mean in means.items()}
        scores = [_dice(banks[name], one, shapes.grid) for name, some in tries.items() for one in some]
        candidates.append((float(np.mean(scores)), banks))
    return PlacedShape(grid, max(candidates, key=lambda candidate: candidate[0])[1])


def _tries(examples: PlaneExamples, grid: SliceGrid) -> list[tuple[SliceInput, FloatArray, BoolArray]]:
    """Some of a plane's training slices: slice, its mask's distances on `grid`, the organ on the slice frame's grid."""
    chosen = np.unique(np.linspace(0, len(examples.slices) - 1, _FIT_SLICES).astype(int))
    return [(examples.slices[n], grid.mask_distances(examples.slices[n]), examples.shapes[n] > 0) for n in chosen]


def _dice(bank: CutBank, one: tuple[SliceInput, FloatArray, BoolArray], frame: SliceGrid) -> float:
    """Dice of a bank's choice for one of `_tries`, on the grid of the slice frame."""
    slice, distances, truth = one
    field, affine = bank.place(slice, distances)
    matrix = np.linalg.inv(affine) @ frame.of_slice(slice)
    placed = ndimage.affine_transform(
        field,
        matrix[:3, :3],
        offset=matrix[:3, 3],
        output_shape=truth.shape,
        order=1,
        cval=float(field.min()),
    )
    predicted = placed > bank.level
    return 2 * np.count_nonzero(predicted & truth) / (np.count_nonzero(predicted) + np.count_nonzero(truth))
