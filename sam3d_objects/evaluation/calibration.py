"""Calibration: how often the true surface lies as near as a prediction's spread says.

A prediction that comes with a spread in mm for each vertex states a distribution of the distance to the truth. Letters:
V vertices, L levels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist

import numpy as np

from sam3d_objects.arrays import FloatArray
from sam3d_objects.files import write_json
from sam3d_objects.mesh import Mesh, surface_distance

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
FILE = "calibration.json"
_DIGITS = 4


@dataclass(frozen=True)
class Calibration:
    """What one prediction, or the mean of several, keeps of what its spread states.

    Attributes:
        within: (L,) for each of LEVELS the share of the predicted surface that is as near to the truth as stated.
        n: how many predictions these are the means of.
        spread_mm, distance_mm: mean spread, and mean distance to the true surface.
    """

    within: tuple[float, ...]
    n: int
    spread_mm: float
    distance_mm: float


def reach(level: float) -> float:
    """Return within how many spreads the truth is to be with probability `level`: z with P(|N(0, 1)| < z) = level."""
    return NormalDist().inv_cdf((1 + level) / 2)


def calibration_of(mesh: Mesh, spread_mm: FloatArray, truth: Mesh) -> Calibration:
    """Compare stated and found distances of one prediction.

    At level p the spread s states that the true surface is nearer than reach(p) s with probability p, as for a normal
    distribution about the predicted surface with standard deviation s. A vertex counts by the area around it.

    Args:
        mesh: the prediction, patient mm.
        spread_mm: (V,) at its vertices, at least 0.
        truth: the true surface, patient mm.

    Raises:
        ValueError: a spread of another length, negative or not finite, or a surface without faces or area.
    """
    spread = np.asarray(spread_mm, dtype=np.float64)
    if spread.shape != (len(mesh.vertices),) or not (np.isfinite(spread) & (spread >= 0)).all():
        raise ValueError(f"expected a spread in mm, at least 0, for {len(mesh.vertices)} vertices, got {spread.shape}")
    if mesh.is_empty:
        raise ValueError("the predicted mesh has no faces")
    areas = vertex_areas(mesh)
    weights = areas / areas.sum()
    distance = surface_distance(truth, mesh.vertices)
    within = tuple(float(weights @ (distance <= reach(level) * spread)) for level in LEVELS)
    return Calibration(within, 1, float(weights @ spread), float(weights @ distance))


def vertex_areas(mesh: Mesh) -> FloatArray:
    """Return a third of the area of the faces around each vertex, (V,) mm2."""
    thirds = np.linalg.norm(mesh.cross, axis=1) / 6
    return np.bincount(mesh.faces.ravel(), np.repeat(thirds, 3), minlength=len(mesh.vertices)).astype(np.float64)


def pooled_calibration(parts: Sequence[Calibration]) -> Calibration:
    """Return the mean of calibrations, each counted by its `n`.

    Raises:
        ValueError: there are none.
    """
    if not parts:
        raise ValueError("no prediction came with a spread: nothing to calibrate. Draw at least two samples (K)")
    counts = np.array([part.n for part in parts])
    values = np.array([(*part.within, part.spread_mm, part.distance_mm) for part in parts])
    *within, spread_mm, distance_mm = (counts @ values / counts.sum()).tolist()
    return Calibration(tuple(within), int(counts.sum()), spread_mm, distance_mm)


def write_calibration(folder: Path, pooled: Calibration | None) -> None:
    """Write calibration.json: `levels` (stated), `within` (found), `n` predictions, mean `spread_mm`, `distance_mm`.

    None removes the file, which is then of an earlier evaluation.
    """
    if pooled is None:
        (folder / FILE).unlink(missing_ok=True)
        return
    write_json(
        folder / FILE,
        {
            "levels": list(LEVELS),
            "within": [round(share, _DIGITS) for share in pooled.within],
            "n": pooled.n,
            "spread_mm": round(pooled.spread_mm, _DIGITS),
            "distance_mm": round(pooled.distance_mm, _DIGITS),
        },
    )
