"""Statistics of rows: means, medians, quartiles, failures, and bootstrap intervals over patients.

A patient's slices are not independent, so patients are drawn, not rows: a replicate is the mean over all rows of the
patients drawn (the cluster bootstrap), and the interval lies between its 2.5 and 97.5 percentiles (Efron and
Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sam3d_objects.arrays import FloatArray
from sam3d_objects.evaluation.rows import Row

REPLICATES = 4000


@dataclass(frozen=True)
class Summary:
    """One metric over the rows of one system.

    Args:
        mean, median, q1, q3: over rows; failed rows count with what they scored.
        ci_low, ci_high: 95 % interval of the mean; None with fewer than two patients, where nothing can be
            said.
    """

    mean: float
    median: float
    q1: float
    q3: float
    ci_low: float | None
    ci_high: float | None


@dataclass(frozen=True)
class PairedDifference:
    """Mean of metric(first) - metric(second) over the cases that both have.

    Args:
        mean: the difference.
        ci_low, ci_high: its 95 % interval over patients; None with fewer than two.
        n: cases; patients: people.
    """

    mean: float
    ci_low: float | None
    ci_high: float | None
    n: int
    patients: int


def bootstrap_interval(
    values: FloatArray, patients: Sequence[str], seed: int = 0, replicates: int = REPLICATES
) -> tuple[float, float] | tuple[None, None]:
    """95 % interval of the mean of values (N,) over patients (N names), by the percentile bootstrap.

    The same seed and patients draw the same people. (None, None) with fewer than two patients.

    Raises:
        ValueError: when the two lengths differ.
    """
    if len(values) != len(patients):
        raise ValueError(f"expected a patient for each value, got {len(patients)} for {len(values)}")
    names, group = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
    if len(names) < 2:
        return None, None
    sums = np.bincount(group, weights=np.asarray(values, dtype=np.float64))
    counts = np.bincount(group)
    drawn = np.random.default_rng(seed).integers(len(names), size=(replicates, len(names)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)


def summarise(rows: Sequence[Row], metric: str, seed: int = 0) -> Summary:
    """One metric over rows of one system.

    Raises:
        ValueError: without rows: there is no mean of nothing.
    """
    if not rows:
        raise ValueError(f"no rows to summarise {metric} over")
    values = np.array([row.scores[metric] for row in rows])
    q1, median, q3 = (float(q) for q in np.percentile(values, (25, 50, 75)))
    low, high = bootstrap_interval(values, [row.patient for row in rows], seed)
    return Summary(float(values.mean()), median, q1, q3, low, high)


def paired_difference(rows: Sequence[Row], first: str, second: str, metric: str, seed: int = 0) -> PairedDifference:
    """Compare two systems on the same cases; patients are drawn once for both.

    Raises:
        ValueError: when the systems were not judged on the same cases.
    """
    scores = {
        system: {row.case_key: row.scores[metric] for row in rows if row.system == system} for system in (first, second)
    }
    patients = {row.case_key: row.patient for row in rows}
    if scores[first].keys() != scores[second].keys() or not scores[first]:
        raise ValueError(
            f"{first} and {second} were not judged on the same cases: {len(scores[first])} and {len(scores[second])} "
            f"rows, {len(scores[first].keys() & scores[second].keys())} in common"
        )
    keys = sorted(scores[first])
    difference = np.array([scores[first][key] - scores[second][key] for key in keys])
    people = [patients[key] for key in keys]
    low, high = bootstrap_interval(difference, people, seed)
    return PairedDifference(float(difference.mean()), low, high, len(keys), len(set(people)))
