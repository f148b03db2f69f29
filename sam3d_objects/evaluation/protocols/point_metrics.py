"""Point scores: two surfaces as point clouds without place and size, as `slice3d-2602` compares them.

Lengths are in units of half the longest reach: a cloud is centred and divided by its largest absolute coordinate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from sam3d_objects.arrays import FloatArray
from sam3d_objects.evaluation.protocols.icp import icp
from sam3d_objects.mesh import Mesh, sample_surface

POINTS = 10_000
EMD_POINTS = 2_048
ICP_THRESHOLD = 0.3
F1_DISTANCE = 0.01
CELLS = 64
_FURTHEST = 2 * np.sqrt(3.0)  # diagonal of the cube [-1, 1]^3 that every cloud lies in


@dataclass(frozen=True)
class PointMetric:
    """One number of the protocol.

    Args:
        title: for tables.
        higher_is_better: whether it is an overlap.
        worst: what a failed case scores; no success scores worse.
        digits: that tables show.
    """

    title: str
    higher_is_better: bool
    worst: float
    digits: int

    def capped(self, value: float) -> float:
        """`value`, or the worst where that is better than it."""
        return max(value, self.worst) if self.higher_is_better else min(value, self.worst)


POINT_METRICS: Mapping[str, PointMetric] = MappingProxyType(
    {
        "f1": PointMetric("F1@0.01", True, 0.0, 3),
        "voxel_iou": PointMetric("voxel IoU", True, 0.0, 3),
        "voxel_dice": PointMetric("voxel Dice", True, 0.0, 3),
        "chamfer": PointMetric("Chamfer", False, 2 * _FURTHEST, 4),
        "emd": PointMetric("EMD", False, _FURTHEST, 4),
    }
)


def normalised(points: FloatArray) -> FloatArray:
    """Points (N, 3), their mean moved to 0 and divided by their largest absolute coordinate.

    Raises:
        ValueError: not finite, or all in one place: there is no size to divide by.
    """
    centered = points - points.mean(axis=0)
    reach = np.abs(centered).max()
    if not (np.isfinite(reach) and reach > 0):
        raise ValueError(f"expected points with a finite extent above 0, got {len(points)} that reach {reach:g}")
    return centered / reach


def surface_cloud(mesh: Mesh, generator: np.random.Generator) -> FloatArray:
    """(POINTS, 3) float64, area-uniform on a mesh (any unit; need not be closed), normalised.

    Raises:
        ValueError: the mesh is empty or without area.
    """
    return normalised(sample_surface(mesh, POINTS, generator)[0])


def f1_score(predicted: FloatArray, truth: FloatArray, distance: float = F1_DISTANCE) -> float:
    """Harmonic mean of the shares of points (N, 3) and (M, 3) that lie within `distance` of the other cloud.

    After Tatarchenko et al., "What do single-view 3D reconstruction networks learn?", CVPR 2019. 0 where both shares
    are 0.
    """
    return _f1(*_nearest_both_ways(predicted, truth), distance)


def cell_overlap(predicted: FloatArray, truth: FloatArray) -> tuple[float, float]:
    """IoU and "Dice" of the cells that the points hit; the cube [-1, 1]^3 has CELLS a side.

    Cells of a surface, not of a solid, which is why the name stands in quotes. The lattice goes on beyond the cube, so
    that points which ICP has moved out of it have cells of their own.
    """
    hit = [{tuple(cell) for cell in np.floor((points + 1) * (CELLS / 2)).astype(int)} for points in (predicted, truth)]
    shared, both = len(hit[0] & hit[1]), len(hit[0]) + len(hit[1])
    return shared / (both - shared), 2 * shared / both


def earth_movers_distance(predicted: FloatArray, truth: FloatArray) -> float:
    """Mean distance of the one-to-one assignment of two clouds (N, 3) that has the least sum; exact.

    Rubner et al., "The earth mover's distance as a metric for image retrieval", IJCV 40(2), 2000, with equal weights.
    """
    distances = cdist(predicted, truth)
    return float(distances[linear_sum_assignment(distances)].mean())


def point_scores(predicted: FloatArray, truth: FloatArray, generator: np.random.Generator) -> dict[str, float]:
    """Every metric of two normalised clouds (POINTS, 3), after ICP has moved the first onto the second.

    Chamfer is the sum of the two mean distances to the nearest point, not squared. `generator` draws the points that
    are assigned to each other for EMD.
    """
    moved = icp(predicted, truth, ICP_THRESHOLD)(predicted)
    to_truth, to_predicted = _nearest_both_ways(moved, truth)
    iou, dice = cell_overlap(moved, truth)
    chosen = [cloud[generator.choice(len(cloud), EMD_POINTS, replace=False)] for cloud in (moved, truth)]
    scores = {
        "f1": _f1(to_truth, to_predicted, F1_DISTANCE),
        "voxel_iou": iou,
        "voxel_dice": dice,
        "chamfer": float(to_truth.mean() + to_predicted.mean()),
        "emd": earth_movers_distance(*chosen),
    }
    return {name: metric.capped(scores[name]) for name, metric in POINT_METRICS.items()}


def _nearest_both_ways(first: FloatArray, second: FloatArray) -> tuple[FloatArray, FloatArray]:
    return np.asarray(cKDTree(second).query(first)[0]), np.asarray(cKDTree(first).query(second)[0])


def _f1(to_truth: FloatArray, to_predicted: FloatArray, distance: float) -> float:
    precision, recall = float((to_truth < distance).mean()), float((to_predicted < distance).mean())
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0
