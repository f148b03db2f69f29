"""Summary: rows turned into summary.json (for programs) and summary.md (for people)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sam3d_objects.evaluation.ceilings import is_ceiling
from sam3d_objects.evaluation.metrics import METRICS
from sam3d_objects.evaluation.rows import Row, metrics_of
from sam3d_objects.evaluation.statistics import paired_difference, summarise
from sam3d_objects.evaluation.summary_tables import JsonDict, markdown_of
from sam3d_objects.files import atomic_path, nearest, write_json


@dataclass(frozen=True)
class SummaryOptions:
    """What a summary says beside the figures.

    Args:
        reference: the system that the others are compared with, pair by pair; None takes `adapted` where it
            is, or else the first system.
        synthetic: whether the scans are phantoms, which is then said wherever figures are shown.
        unseen: whether it is known that nothing was fitted to the patients.
        notes: lines for people: the field of view, the adapter, what was proved.
        seed: of the bootstrap.
    """

    reference: str | None = None
    synthetic: bool = False
    unseen: bool = False
    notes: tuple[str, ...] = ()
    seed: int = 0


def _system_scores(rows: Sequence[Row], seed: int) -> JsonDict:
    scores: JsonDict = {"n": len(rows), "failures": sum(row.failed for row in rows)}
    for metric in metrics_of(rows):
        summary = summarise(rows, metric, seed)
        scores[metric] = {
            "mean": summary.mean,
            "median": summary.median,
            "ci_low": summary.ci_low,
            "ci_high": summary.ci_high,
        }
    return scores


def _per_system(rows: Sequence[Row], systems: Iterable[str], seed: int) -> JsonDict:
    groups = {system: [row for row in rows if row.system == system] for system in systems}
    return {system: _system_scores(group, seed) for system, group in groups.items() if group}


def _grouped(rows: Sequence[Row], attribute: str, systems: Sequence[str], seed: int) -> JsonDict:
    names = dict.fromkeys(str(getattr(row, attribute)) for row in rows)
    return {
        name: _per_system([row for row in rows if getattr(row, attribute) == name], systems, seed) for name in names
    }


def _quartiles(rows: Sequence[Row], systems: Sequence[str]) -> JsonDict:
    quartiles: JsonDict = {}
    for system in systems:
        own = [row for row in rows if row.system == system]
        summaries = {metric: summarise(own, metric) for metric in metrics_of(rows)}
        quartiles[system] = {metric: [summary.q1, summary.q3] for metric, summary in summaries.items()}
    return quartiles


def _costs(rows: Sequence[Row], systems: Sequence[str]) -> JsonDict:
    costs: JsonDict = {}
    for system in systems:
        own = [row for row in rows if row.system == system]
        peaks = [row.peak_mib for row in own if row.peak_mib is not None]
        costs[system] = {
            "seconds_median": float(np.median([row.seconds for row in own])),
            "peak_mib": max(peaks) if peaks else None,
        }
    return costs


def reference_of(systems: Sequence[str], wanted: str | None) -> str:
    """The system that the others are compared with: see `SummaryOptions.reference`.

    Raises:
        ValueError: no systems, or `wanted` is not among them.
    """
    if not systems:
        raise ValueError("no rows to summarise: nothing was evaluated")
    methods = [system for system in systems if not is_ceiling(system)] or systems
    reference = wanted or ("adapted" if "adapted" in systems else methods[0])
    if reference not in systems:
        raise ValueError(f"the reference {reference!r} is not among {systems}.{nearest(reference, systems)}")
    return reference


def paired_records(
    rows: Sequence[Row], reference: str, others: Iterable[str], metrics: Sequence[str], seed: int
) -> list[JsonDict]:
    """`paired` of a summary: the reference minus each other system, metric by metric, on the same cases."""
    pairs = []
    for other in others:
        for metric in metrics:
            difference = paired_difference(rows, reference, other, metric, seed)
            pairs.append(
                {
                    "first": reference,
                    "second": other,
                    "metric": metric,
                    "mean_difference": difference.mean,
                    "ci_low": difference.ci_low,
                    "ci_high": difference.ci_high,
                    "n": difference.n,
                    "patients": difference.patients,
                }
            )
    return pairs


def summary_of(rows: Sequence[Row], options: SummaryOptions | None = None) -> JsonDict:
    """The whole of summary.json.

    Keys: `systems` {name: {n, failures, metric: {mean, median, ci_low, ci_high}}}, pooled; `organs`, `planes` and
    `slice_kinds`, each {value: the same}; `quartiles` {system: {metric: [q1, q3]}}; `paired`, the differences of the
    reference to each other system; `ceilings`, the systems that were told the truth; `costs` {system: {seconds_median,
    peak_mib}}; `reference`, `patients`, `cases`, `metrics` {metric: {title, kind, higher_is_better, shape_only}},
    `synthetic`, `notes`. An interval over fewer than two patients is null.

    Raises:
        ValueError: no rows, a reference that is not among the systems, or systems judged on different cases.
    """
    options = options or SummaryOptions()
    systems = list(dict.fromkeys(row.system for row in rows))
    reference = reference_of(systems, options.reference)
    others = [system for system in systems if system != reference]
    return {
        "systems": _per_system(rows, systems, options.seed),
        "organs": _grouped(rows, "organ", systems, options.seed),
        "planes": _grouped(rows, "plane", systems, options.seed),
        "slice_kinds": _grouped(rows, "slice_kind", systems, options.seed),
        "quartiles": _quartiles(rows, systems),
        "paired": paired_records(rows, reference, others, metrics_of(rows), options.seed),
        "ceilings": [system for system in systems if is_ceiling(system)],
        "costs": _costs(rows, systems),
        "reference": reference,
        "patients": len({row.patient for row in rows}),
        "cases": len({row.case_key for row in rows}),
        "metrics": {
            name: {
                "title": METRICS[name].title,
                "kind": METRICS[name].kind,
                "higher_is_better": METRICS[name].higher_is_better,
                "shape_only": METRICS[name].shape_only,
            }
            for name in metrics_of(rows)
        },
        "synthetic": options.synthetic,
        "unseen": options.unseen,
        "notes": list(options.notes),
    }


def write_summary(out: Path, rows: Sequence[Row], options: SummaryOptions | None = None) -> JsonDict:
    """Write summary.json and summary.md into the folder `out` and return what summary.json holds."""
    summary = summary_of(rows, options)
    write_json(out / "summary.json", summary)
    with atomic_path(out / "summary.md") as temporary:
        temporary.write_text(markdown_of(summary), encoding="utf-8")
    return summary
