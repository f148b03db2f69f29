"""Summary: rows turned into summary.json (for programs) and summary.md (for people)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sam3d_objects.evaluation.metrics import METRICS
from sam3d_objects.evaluation.rows import Row
from sam3d_objects.evaluation.statistics import paired_difference, summarise
from sam3d_objects.files import atomic_path, nearest, write_json

RESEARCH_USE = "For research use, not for diagnosis."
SYNTHETIC = "The scans are SYNTHETIC phantoms: these figures say that the tool works, nothing about patients."

JsonDict = dict[str, Any]


@dataclass(frozen=True)
class SummaryOptions:
    """What a summary says beside the figures.

    Args:
        reference: the system that the others are compared with, pair by pair; None takes `adapted` where it
            is, or else the first system.
        synthetic: whether the scans are phantoms, which is then said wherever figures are shown.
        notes: lines for people: the field of view, the adapter, what was proved.
        seed: of the bootstrap.
    """

    reference: str | None = None
    synthetic: bool = False
    notes: tuple[str, ...] = ()
    seed: int = 0


def _system_scores(rows: Sequence[Row], seed: int) -> JsonDict:
    scores: JsonDict = {"n": len(rows), "failures": sum(row.failed for row in rows)}
    for metric in METRICS:
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
        summaries = {metric: summarise(own, metric) for metric in METRICS}
        quartiles[system] = {metric: [summary.q1, summary.q3] for metric, summary in summaries.items()}
    return quartiles


def _paired(rows: Sequence[Row], reference: str, others: Iterable[str], seed: int) -> list[JsonDict]:
    pairs = []
    for other in others:
        for metric in METRICS:
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
    reference to each other system; `reference`, `patients`, `cases`, `metrics` {metric: {title, kind,
    higher_is_better}}, `synthetic`, `notes`. An interval over fewer than two patients is null.

    Raises:
        ValueError: no rows, a reference that is not among the systems, or systems judged on different cases.
    """
    options = options or SummaryOptions()
    systems = list(dict.fromkeys(row.system for row in rows))
    if not systems:
        raise ValueError("no rows to summarise: nothing was evaluated")
    reference = options.reference or ("adapted" if "adapted" in systems else systems[0])
    if reference not in systems:
        raise ValueError(f"the reference {reference!r} is not among {systems}.{nearest(reference, systems)}")
    others = [system for system in systems if system != reference]
    return {
        "systems": _per_system(rows, systems, options.seed),
        "organs": _grouped(rows, "organ", systems, options.seed),
        "planes": _grouped(rows, "plane", systems, options.seed),
        "slice_kinds": _grouped(rows, "slice_kind", systems, options.seed),
        "quartiles": _quartiles(rows, systems),
        "paired": _paired(rows, reference, others, options.seed),
        "reference": reference,
        "patients": len({row.patient for row in rows}),
        "cases": len({row.case_key for row in rows}),
        "metrics": {
            name: {"title": metric.title, "kind": metric.kind, "higher_is_better": metric.higher_is_better}
            for name, metric in METRICS.items()
        },
        "synthetic": options.synthetic,
        "notes": list(options.notes),
    }


def _number(value: float, metric: str) -> str:
    digits = {"percent": 1, "distance": 2, "overlap": 3}[METRICS[metric].kind]
    return f"{value:.{digits}f}"


def _cell(score: Mapping[str, Any], metric: str, best: bool) -> str:
    text = _number(score["mean"], metric)
    text = f"**{text}**" if best else text
    if score["ci_low"] is None:
        return text
    return f"{text} ({_number(score['ci_low'], metric)} to {_number(score['ci_high'], metric)})"


def _best(systems: JsonDict, metric: str) -> str:
    """The best mean as it is printed, so that equal figures are bold together."""
    means = [scores[metric]["mean"] for scores in systems.values()]
    return _number(max(means) if METRICS[metric].higher_is_better else min(means), metric)


def _table(heading: Sequence[str], body: Iterable[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(heading)} |", "|" + "---|" * len(heading)]
    return [*lines, *(f"| {' | '.join(cells)} |" for cells in body), ""]


def _pooled_table(systems: JsonDict) -> list[str]:
    best = {metric: _best(systems, metric) for metric in METRICS}
    body = [
        [
            name,
            str(scores["n"]),
            str(scores["failures"]),
            *(_cell(scores[m], m, _number(scores[m]["mean"], m) == best[m]) for m in METRICS),
        ]
        for name, scores in systems.items()
    ]
    return _table(["system", "n", "failed", *(metric.title for metric in METRICS.values())], body)


def _grouped_table(groups: JsonDict, systems: Sequence[str], metric: str) -> list[str]:
    best = {group: _best(scores, metric) for group, scores in groups.items()}
    body = []
    for system in systems:
        cells = [system]
        for group, scores in groups.items():
            score = scores[system][metric] if system in scores else None
            cells.append("" if score is None else _cell(score, metric, _number(score["mean"], metric) == best[group]))
        body.append(cells)
    return _table(["system", *groups], body)


def _paired_table(paired: Sequence[JsonDict]) -> list[str]:
    body = []
    for pair in paired:
        if pair["metric"] not in ("dice", "hd95_mm"):
            continue
        text = _cell({**pair, "mean": pair["mean_difference"]}, pair["metric"], False)
        body.append([f"{pair['first']} - {pair['second']}", METRICS[pair["metric"]].title, text])
    return _table(["difference", "metric", "mean (95 % interval)"], body)


def markdown_of(summary: JsonDict) -> str:
    """summary.md: the tables of a summary as `summary_of` makes it; the best of each column is bold."""
    systems = summary["systems"]
    lines = ["# Scores", "", RESEARCH_USE, ""]
    if summary["synthetic"]:
        lines += [f"**{SYNTHETIC}**", ""]
    lines += [
        f"{summary['patients']} patients, {summary['cases']} slices. Patient millimetres, nothing aligned to the "
        "truth. Mean, with its 95 % bootstrap interval over patients; failed cases count as overlap 0, volume error "
        "100 % and the diagonal of the scan.",
        "",
    ]
    if summary["notes"]:
        lines += [*(f"- {note}" for note in summary["notes"]), ""]
    lines += ["## All cases", "", *_pooled_table(systems)]
    for key, title in (("planes", "plane"), ("slice_kinds", "kind of slice"), ("organs", "organ")):
        for metric in ("dice", "hd95_mm"):
            lines += [f"## {METRICS[metric].title} by {title}", ""]
            lines += _grouped_table(summary[key], list(systems), metric)
    if summary["paired"]:
        lines += [f"## {summary['reference']} against the others, on the same cases", ""]
        lines += _paired_table(summary["paired"])
    return "\n".join(lines)


def write_summary(out: Path, rows: Sequence[Row], options: SummaryOptions | None = None) -> JsonDict:
    """Write summary.json and summary.md into the folder `out` and return what summary.json holds."""
    summary = summary_of(rows, options)
    write_json(out / "summary.json", summary)
    with atomic_path(out / "summary.md") as temporary:
        temporary.write_text(markdown_of(summary), encoding="utf-8")
    return summary
