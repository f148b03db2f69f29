"""Pooled: several evaluations as one, such as those of the folds, each of which tests other patients."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sam3d_objects.arrays import FloatArray
from sam3d_objects.evaluation.rows import Row, read_rows
from sam3d_objects.evaluation.statistics import REPLICATES, bootstrap_interval, paired_difference

DIGITS = {"dice": 3, "hd95_mm": 2, "assd_mm": 2}
"""The metrics that are pooled, and the digits that a table shows of each."""

_BLOCK = 256  # replicates at once, to bound the memory


@dataclass(frozen=True)
class Estimate:
    """A number over cases, and its 95 % interval over patients (None with fewer than two)."""

    value: float
    ci_low: float | None
    ci_high: float | None

    def text(self, digits: int, sign: bool = False) -> str:
        """`0.712 (0.690 to 0.731)`, with a plus sign before gains where `sign` is set."""
        form = f"{{:{'+' if sign else ''}.{digits}f}}"
        if self.ci_low is None or self.ci_high is None:
            return form.format(self.value)
        return f"{form.format(self.value)} ({form.format(self.ci_low)} to {form.format(self.ci_high)})"


def rows_as(path: Path, names: Mapping[str, str]) -> list[Row]:
    """The rows of an evaluation's systems under other names: system in the file -> name; others are left out.

    Raises:
        ValueError: the file is damaged, or has no row of a system.
    """
    rows = read_rows(path)
    missing = [system for system in names if system not in {row.system for row in rows}]
    if missing:
        raise ValueError(f"{path} has no rows of {', '.join(missing)}; evaluate again")
    return [replace(row, system=names[row.system]) for row in rows if row.system in names]


def pooled_mean(rows: Sequence[Row], metric: str, seed: int = 0) -> Estimate:
    """Mean of a metric over the rows of one system."""
    values, people = _values(rows, metric)
    return Estimate(float(values.mean()), *bootstrap_interval(values, people, seed))


def pooled_median(rows: Sequence[Row], metric: str, seed: int = 0) -> Estimate:
    """Median of a metric over the rows of one system."""
    values, people = _values(rows, metric)
    return Estimate(float(np.median(values)), *median_interval(values, people, seed))


def _values(rows: Sequence[Row], metric: str) -> tuple[FloatArray, list[str]]:
    if not rows:
        raise ValueError(f"no rows to pool {metric} over")
    return np.array([row.scores[metric] for row in rows]), [row.patient for row in rows]


def median_interval(
    values: FloatArray, patients: Sequence[str], seed: int = 0, replicates: int = REPLICATES
) -> tuple[float, float] | tuple[None, None]:
    """95 % interval of the median of values (N,) over patients (N names), as `bootstrap_interval` has it of the mean.

    A replicate's median is the lowest value that at least half of its rows do not exceed.
    """
    names, group = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
    if len(names) < 2:
        return None, None
    order = np.argsort(values, kind="stable")
    generator = np.random.default_rng(seed)
    medians = np.empty(replicates)
    for first in range(0, replicates, _BLOCK):
        drawn = generator.integers(len(names), size=(min(_BLOCK, replicates - first), len(names)))
        times = np.zeros(drawn.shape, dtype=np.int64)
        np.add.at(times, (np.arange(len(drawn))[:, None], drawn), 1)
        below = np.cumsum(times[:, group[order]], axis=1)
        medians[first : first + _BLOCK] = values[order[(2 * below >= below[:, -1:]).argmax(axis=1)]]
    low, high = np.percentile(medians, (2.5, 97.5))
    return float(low), float(high)


def pooled_systems(rows: Mapping[str, Sequence[Row]]) -> dict[str, dict[str, Any]]:
    """What each system reached on all its rows, as JSON: cases, patients, failures, mean and median of each metric."""
    return {
        name: {
            "n": len(own),
            "patients": len({row.patient for row in own}),
            "failures": sum(row.failed for row in own),
            **{
                metric: {"mean": asdict(pooled_mean(own, metric)), "median": asdict(pooled_median(own, metric))}
                for metric in DIGITS
            },
        }
        for name, own in rows.items()
    }


def pooled_differences(
    rows: Mapping[str, Sequence[Row]], pairs: Sequence[tuple[str, str]]
) -> dict[str, dict[str, Any]]:
    """First minus second for pairs of systems, case by case, as JSON; pairs that were judged on other cases are left
    out.
    """
    differences = {}
    for first, second in pairs:
        cases = [{row.case_key for row in rows[name]} for name in (first, second)]
        if cases[0] == cases[1]:
            both = [*rows[first], *rows[second]]
            found = {metric: paired_difference(both, first, second, metric) for metric in DIGITS}
            differences[f"{first} - {second}"] = {
                metric: asdict(Estimate(one.mean, one.ci_low, one.ci_high)) for metric, one in found.items()
            }
    return differences


def pooled_slices(rows: Mapping[str, Sequence[Row]], metric: str = "dice") -> dict[str, dict[str, float]]:
    """System -> plane and kind of slice, such as `axial random` -> mean of a metric over all its rows."""
    found: dict[str, dict[str, float]] = {}
    for name, own in rows.items():
        kinds = sorted({(row.plane, row.slice_kind) for row in own})
        found[name] = {
            f"{plane} {kind}": float(
                np.mean([row.scores[metric] for row in own if (row.plane, row.slice_kind) == (plane, kind)])
            )
            for plane, kind in kinds
        }
    return found


def systems_table(systems: Mapping[str, Mapping[str, Any]], further: Mapping[str, Mapping[str, str]]) -> str:
    """Markdown of what `pooled_systems` gives: mean over median in each cell.

    Args:
        systems: name -> figures.
        further: more columns, column -> system -> text.
    """
    header = ["system", "cases", "failed", "Dice", "HD95 mm", "ASSD mm", *further]
    lines = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    for name, figures in systems.items():
        scores = [
            "<br>".join(Estimate(**figures[metric][kind]).text(digits) for kind in ("mean", "median"))
            for metric, digits in DIGITS.items()
        ]
        more = [texts.get(name, "") for texts in further.values()]
        lines.append(f"| {' | '.join([name, str(figures['n']), str(figures['failures']), *scores, *more])} |")
    return "\n".join(lines)


def slices_table(slices: Mapping[str, Mapping[str, float]], digits: int = DIGITS["dice"]) -> str:
    """Markdown of what `pooled_slices` gives."""
    kinds = list(dict.fromkeys(kind for means in slices.values() for kind in means))
    lines = [f"| {' | '.join(['system', *kinds])} |", "|---" * (len(kinds) + 1) + "|"]
    for name, means in slices.items():
        cells = [f"{means[kind]:.{digits}f}" if kind in means else "" for kind in kinds]
        lines.append(f"| {' | '.join([name, *cells])} |")
    return "\n".join(lines)


def differences_table(differences: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown of what `pooled_differences` gives."""
    lines = ["| difference | Dice | HD95 mm | ASSD mm |", "|---|---|---|---|"]
    for name, metrics in differences.items():
        cells = [Estimate(**metrics[metric]).text(digits, sign=True) for metric, digits in DIGITS.items()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)
