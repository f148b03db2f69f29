"""Baselines: what a user would try instead of a network. They look at the mask alone and are fitted on training organs.

Each is fitted for one organ, and told so at test, which the network is not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from sam3d_objects.arrays import FloatArray
from sam3d_objects.evaluation.linear_shape import pca_shape
from sam3d_objects.evaluation.shape_models import mean_shape, nearest_shape, require_plane
from sam3d_objects.evaluation.slice_frame import PlaneExamples, SliceGrid, TrainingShapes, mask_center_mm
from sam3d_objects.files import nearest
from sam3d_objects.mesh import Mesh, surface_from_field
from sam3d_objects.volume import SliceInput, Volume

Baseline = Callable[[SliceInput, int], Mesh]
"""(slice, seed) -> closed mesh in patient mm."""

_RATIOS = np.arange(0.1, 6.0, 0.05)
_LAYERS = 8


def _mask_area_mm2(slice: SliceInput) -> float:
    return int(slice.mask.sum()) * float(np.prod(slice.plane.pixel_spacing_mm))


def best_ratio(smallest: Callable[[FloatArray, float, int], FloatArray], examples: PlaneExamples) -> float:
    """The depth, in units of the square root of the mask's area, with the best mean Dice over training slices.

    Args:
        smallest: (the mask's distances, its area in mm2, the example's number) -> (SIZE, SIZE, SIZE), for
            each grid point the smallest ratio whose solid holds it; infinite where none does.
        examples: the training slices of one plane.
    """
    scores = np.zeros(len(_RATIOS))
    for number, (mask, shape, area_mm2) in enumerate(
        zip(examples.masks, examples.shapes, examples.areas_mm2, strict=True)
    ):
        entering = smallest(mask, float(area_mm2), number)
        truth = shape > 0
        held = np.searchsorted(np.sort(entering, axis=None), _RATIOS, side="right")
        shared = np.searchsorted(np.sort(entering[truth]), _RATIOS, side="right")
        scores += 2 * shared / (held + np.count_nonzero(truth))
    return float(_RATIOS[scores.argmax()])


@dataclass(frozen=True)
class Extrusion:
    """A predictor: the mask pulled along its normal, half the thickness to each side.

    Args:
        ratios: plane name -> thickness / sqrt(area of the mask).
    """

    ratios: Mapping[str, float]

    def __call__(self, slice: SliceInput, seed: int) -> Mesh:
        """The mesh in patient mm; nothing is random."""
        plane = require_plane(slice.plane.name, tuple(self.ratios))
        thickness_mm = self.ratios[plane] * np.sqrt(_mask_area_mm2(slice))
        affine = slice.plane.affine.copy()
        layer_mm = affine[:3, 2] * thickness_mm / _LAYERS
        affine[:3, 2] = layer_mm
        affine[:3, 3] -= layer_mm * (_LAYERS - 1) / 2
        return surface_from_field(np.repeat(slice.mask[:, :, None], _LAYERS, axis=2).astype(np.float32), 0.5, affine)


def extrusion(shapes: TrainingShapes) -> Extrusion:
    """Fit the thickness of an extrusion, plane by plane, to the best Dice on training slices."""
    depth_mm = np.abs(shapes.grid.offsets_mm)

    def smallest(mask: FloatArray, area_mm2: float, number: int) -> FloatArray:
        ratios = 2 * depth_mm / np.sqrt(area_mm2)
        return np.where(mask[:, :, None] > 0, ratios, np.inf)

    return Extrusion({name: best_ratio(smallest, examples) for name, examples in shapes.examples.items()})


def _ellipse_mm(slice: SliceInput) -> FloatArray:
    """(2, 2) covariance (mm2) of the ellipse with the mask's second moments, in camera x and y: x'C^-1x = 1 on its
    edge.
    """
    points_mm = slice.plane.pixel_to_mm(np.argwhere(slice.mask)) - mask_center_mm(slice)
    flat_mm = points_mm @ slice.plane.camera_axes[:2].T
    # A pixel has an extent of its own, so that a mask one pixel wide is not flat.
    row_mm, col_mm = slice.plane.pixel_spacing_mm
    return 4 * (flat_mm.T @ flat_mm / len(flat_mm) + np.diag([col_mm**2, row_mm**2]) / 12)


@dataclass(frozen=True)
class Ellipsoid:
    """A predictor: the ellipse of the mask's moments, swollen into an ellipsoid centred on the slice.

    Args:
        grid: of the slice frame.
        ratios: plane name -> semi-axis along the normal / sqrt(area of the mask).
    """

    grid: SliceGrid
    ratios: Mapping[str, float]

    def __call__(self, slice: SliceInput, seed: int) -> Mesh:
        """The mesh in patient mm; nothing is random."""
        plane = require_plane(slice.plane.name, tuple(self.ratios))
        depth_mm = self.ratios[plane] * np.sqrt(_mask_area_mm2(slice))
        covariance = np.zeros((3, 3))
        covariance[:2, :2] = _ellipse_mm(slice)
        covariance[2, 2] = depth_mm**2
        # A ball of 24 points across, mapped by the square root of the covariance.
        unit = np.linspace(-1.2, 1.2, 24)
        radius = np.sqrt(sum(axis**2 for axis in np.meshgrid(unit, unit, unit, indexing="ij")))
        affine = np.eye(4)
        affine[:3, :3] = slice.plane.camera_axes.T @ np.linalg.cholesky(covariance) * (unit[1] - unit[0])
        affine[:3, 3] = mask_center_mm(slice) - affine[:3, :3] @ np.full(3, (len(unit) - 1) / 2)
        return surface_from_field(1 - radius, 0.0, affine)


def ellipsoid(shapes: TrainingShapes) -> Ellipsoid:
    """Fit the depth of an ellipsoid, plane by plane, to the best Dice on training slices."""
    offsets_mm = shapes.grid.offsets_mm
    across = np.stack(np.meshgrid(offsets_mm, offsets_mm, indexing="ij"), axis=-1)

    def fit(examples: PlaneExamples) -> float:
        def smallest(mask: FloatArray, area_mm2: float, number: int) -> FloatArray:
            inverse = np.linalg.inv(_ellipse_mm(examples.slices[number]))
            room = 1 - np.einsum("abi,ij,abj->ab", across, inverse, across)
            ratio = np.abs(offsets_mm) / np.sqrt(np.maximum(room, 1e-12) * area_mm2)[:, :, None]
            return np.where(room[:, :, None] > 0, ratio, np.inf)

        return best_ratio(smallest, examples)

    return Ellipsoid(shapes.grid, {name: fit(examples) for name, examples in shapes.examples.items()})


BASELINES: Mapping[str, Callable[[TrainingShapes], Baseline]] = MappingProxyType(
    {
        "extrusion": extrusion,
        "ellipsoid": ellipsoid,
        "mean_shape": mean_shape,
        "nearest_shape": nearest_shape,
        "pca_shape": pca_shape,
    }
)


def fit_baselines(labels: Sequence[Volume], names: Sequence[str] = tuple(BASELINES)) -> dict[str, Baseline]:
    """Fit baselines to one organ.

    Args:
        labels: the organ's mask (I, J, K) bool in each training case.
        names: among BASELINES.

    Returns:
        name -> baseline, in the order of `names`.

    Raises:
        ValueError: an unknown name, or no labels.
    """
    for name in names:
        if name not in BASELINES:
            raise ValueError(f"no baseline {name!r}; there are {', '.join(BASELINES)}.{nearest(name, BASELINES)}")
    shapes = TrainingShapes.from_labels(labels)
    return {name: BASELINES[name](shapes) for name in names}
