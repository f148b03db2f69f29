"""Metrics: pure functions of one comparison, whose distances were computed once. Lengths are patient millimetres.

Overlaps count voxels of the truth's grid. HD95, ASSD and surface Dice weigh the surface elements of the two masks by
area (see surface_elements.py); Chamfer is taken between area-uniform points on the two meshes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

import numpy as np

from sam3d_objects.arrays import FloatArray


@dataclass(frozen=True)
class Overlap:
    """How many elements (voxels, or pixels of a slice) two masks have, and how many they share."""

    shared: int
    prediction: int
    truth: int

    @property
    def dice(self) -> float:
        """2 shared / (prediction + truth): 0 when one is empty, NaN when both are."""
        total = self.prediction + self.truth
        return 2 * self.shared / total if total else float("nan")

    @property
    def iou(self) -> float:
        """shared / union: 0 when one is empty, NaN when both are."""
        union = self.prediction + self.truth - self.shared
        return self.shared / union if union else float("nan")


@dataclass(frozen=True, eq=False)
class SurfaceDistances:
    """Distances of one surface's elements to the other surface.

    Args:
        distances_mm: (S,) float64; infinite when the other surface is empty.
        areas_mm2: (S,) float64, the area that each element stands for.
    """

    distances_mm: FloatArray
    areas_mm2: FloatArray

    def percentile_mm(self, percent: float) -> float:
        """The smallest distance within which `percent` of the area lies; infinity for a surface without area."""
        if not len(self.distances_mm):
            return float("inf")
        order = np.argsort(self.distances_mm)
        reached = np.cumsum(self.areas_mm2[order])
        index = np.searchsorted(reached, percent / 100 * reached[-1])
        return float(self.distances_mm[order][min(int(index), len(order) - 1)])


@dataclass(frozen=True, eq=False)
class Comparison:
    """Everything that the metrics are derived from: one prediction beside one truth.

    Args:
        volume: voxels of the truth's grid.
        voxel_volume_ml: volume of one voxel.
        prediction_surface: from the predicted mask's surface to the true one.
        truth_surface: from the true mask's surface to the predicted one.
        prediction_points_mm: (N,) float64, from points on the predicted mesh to the nearest points on the
            true mesh; empty when masks were compared without meshes.
        truth_points_mm: (N,) float64, the other way.
        cut: pixels of the given slice: the mesh's cut beside the mask that was given; None without a slice.
        compare_shape: compares the prediction without its place and size (see shape_only.py), without Chamfer and
            cut; None when masks were compared.
        note: what a reader of the scores should know about the prediction; empty where there is nothing.
    """

    volume: Overlap
    voxel_volume_ml: float
    prediction_surface: SurfaceDistances
    truth_surface: SurfaceDistances
    prediction_points_mm: FloatArray
    truth_points_mm: FloatArray
    cut: Overlap | None
    compare_shape: "Callable[[], Comparison] | None" = None
    note: str = ""

    @cached_property
    def shape(self) -> "Comparison | None":
        """The comparison of the shape alone, made when it is first asked for; None when masks were compared."""
        return self.compare_shape() if self.compare_shape is not None else None


def _surfaces(comparison: Comparison) -> tuple[SurfaceDistances, SurfaceDistances, float]:
    """Both surfaces and their area together, mm2; the area is NaN when both masks are empty."""
    first, second = comparison.prediction_surface, comparison.truth_surface
    area_mm2 = float(first.areas_mm2.sum() + second.areas_mm2.sum())
    return first, second, area_mm2 or float("nan")


def dice(comparison: Comparison) -> float:
    """Volumetric Dice in [0, 1]. One mask empty: 0; both: NaN."""
    return comparison.volume.dice


def iou(comparison: Comparison) -> float:
    """Volumetric intersection over union in [0, 1]. One mask empty: 0; both: NaN."""
    return comparison.volume.iou


def hausdorff_mm(comparison: Comparison, percent: float = 95.0) -> float:
    """The larger of the two directed area-weighted distance percentiles, mm. One mask empty: infinity; both: NaN."""
    first, second, area_mm2 = _surfaces(comparison)
    if np.isnan(area_mm2):
        return float("nan")
    return max(first.percentile_mm(percent), second.percentile_mm(percent))


def assd_mm(comparison: Comparison) -> float:
    """Average symmetric surface distance, mm: the mean over the area of both surfaces together.

    One mask empty: infinity; both: NaN.
    """
    first, second, area_mm2 = _surfaces(comparison)
    return float(first.distances_mm @ first.areas_mm2 + second.distances_mm @ second.areas_mm2) / area_mm2


def surface_dice(comparison: Comparison, tolerance_mm: float) -> float:
    """Share of the area of both surfaces that lies within `tolerance_mm` of the other one.

    One mask empty: 0; both: NaN.
    """
    first, second, area_mm2 = _surfaces(comparison)
    near_mm2 = sum(float(side.areas_mm2[side.distances_mm <= tolerance_mm].sum()) for side in (first, second))
    return near_mm2 / area_mm2


def chamfer_mm(comparison: Comparison) -> float:
    """Symmetric Chamfer distance, mm: the average of the two directed means, not squared.

    Points on one and the same surface are about half the spacing of the samples apart, so a perfect prediction scores
    0.5 sqrt(area / samples) and not 0. NaN when masks were compared without meshes.
    """
    if not len(comparison.prediction_points_mm):
        return float("nan")
    return float(comparison.prediction_points_mm.mean() + comparison.truth_points_mm.mean()) / 2


def volume_error_ml(comparison: Comparison) -> float:
    """Predicted minus true volume, ml (signed)."""
    return (comparison.volume.prediction - comparison.volume.truth) * comparison.voxel_volume_ml


def volume_error_percent(comparison: Comparison) -> float:
    """Size of the volume error, percent of the true volume. Truth empty: infinity; both empty: NaN."""
    if comparison.volume.truth == 0:
        return float("nan") if comparison.volume.prediction == 0 else float("inf")
    return 100 * abs(comparison.volume.prediction - comparison.volume.truth) / comparison.volume.truth


def slice_dice(comparison: Comparison) -> float:
    """Dice of the mesh's cut through the given slice with the mask that was given; NaN without a slice."""
    return comparison.cut.dice if comparison.cut is not None else float("nan")


def shape_only(metric: Callable[[Comparison], float]) -> Callable[[Comparison], float]:
    """`metric` of the shape alone: after the prediction got the truth's centroid and volume; NaN between masks."""

    def of_shape(comparison: Comparison) -> float:
        return metric(comparison.shape) if comparison.shape is not None else float("nan")

    return of_shape


@dataclass(frozen=True)
class Metric:
    """One column of the table.

    Args:
        of: the function.
        title: heading for people.
        kind: `overlap` (0..1, more is better), `distance` (mm), `percent` or `volume` (ml): less is better.
        shape_only: whether the prediction's place and size were taken from the truth first, so that this number
            says nothing about whether the organ was found.
    """

    of: Callable[[Comparison], float]
    title: str
    kind: str
    shape_only: bool = False

    @property
    def higher_is_better(self) -> bool:
        """Whether a larger number is a better one."""
        return self.kind == "overlap"

    def worst(self, diagonal_mm: float, truth_ml: float) -> float:
        """What a failed case scores: overlap 0, volume error 100 %, distance = the diagonal of the scan's grid.

        `truth_ml`, the organ's volume, is what 100 % are in ml.
        """
        return {"overlap": 0.0, "percent": 100.0, "distance": diagonal_mm, "volume": truth_ml}[self.kind]

    def capped(self, value: float, diagonal_mm: float, truth_ml: float) -> float:
        """`value`, but never worse than a failed case."""
        bound = self.worst(diagonal_mm, truth_ml)
        return max(value, bound) if self.higher_is_better else min(value, bound)


METRICS: MappingProxyType[str, Metric] = MappingProxyType(
    {
        "dice": Metric(dice, "Dice", "overlap"),
        "iou": Metric(iou, "IoU", "overlap"),
        "hd95_mm": Metric(hausdorff_mm, "HD95 (mm)", "distance"),
        "assd_mm": Metric(assd_mm, "ASSD (mm)", "distance"),
        "chamfer_mm": Metric(chamfer_mm, "Chamfer (mm)", "distance"),
        "surface_dice_1mm": Metric(lambda c: surface_dice(c, 1.0), "Surface Dice 1 mm", "overlap"),
        "surface_dice_2mm": Metric(lambda c: surface_dice(c, 2.0), "Surface Dice 2 mm", "overlap"),
        "volume_error_percent": Metric(volume_error_percent, "Volume error (%)", "percent"),
        "slice_dice": Metric(slice_dice, "Slice Dice", "overlap"),
        "volume_error_ml": Metric(lambda c: abs(volume_error_ml(c)), "Volume error (ml)", "volume"),
        "shape_dice": Metric(shape_only(dice), "Shape-only Dice", "overlap", shape_only=True),
        "shape_hd95_mm": Metric(shape_only(hausdorff_mm), "Shape-only HD95 (mm)", "distance", shape_only=True),
        "shape_assd_mm": Metric(shape_only(assd_mm), "Shape-only ASSD (mm)", "distance", shape_only=True),
    }
)
