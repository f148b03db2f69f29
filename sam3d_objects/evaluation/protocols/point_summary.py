"""Point summary: point rows turned into summary.json and summary.md, each score beside the ceiling of its shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from sam3d_objects.evaluation.ceilings import is_ceiling
from sam3d_objects.evaluation.protocols.point_metrics import POINT_METRICS
from sam3d_objects.evaluation.protocols.point_rows import ceiling_of
from sam3d_objects.evaluation.rows import Row
from sam3d_objects.evaluation.statistics import summarise
from sam3d_objects.evaluation.summary import SummaryOptions, paired_records, reference_of
from sam3d_objects.evaluation.summary_tables import RESEARCH_USE, SYNTHETIC, JsonDict, table
from sam3d_objects.files import atomic_path, write_json

_CEILING = "ceiling (the truth, sampled again)"


def point_summary_of(rows: Sequence[Row], protocol: str, options: SummaryOptions | None = None) -> JsonDict:
    """The whole of the protocol's summary.json.

    Keys: `protocol`; `systems` {name: {n, failures, metric: {mean, median, q1, q3, ci_low, ci_high}}}; `ceiling`, the
    same of the shapes' ceilings; `organs` {organ: {`systems`, `ceiling`}}; `knows_the_truth`, the systems that are
    ceilings and no methods; `paired`, differences of the reference to each other method; `reference`, `patients`,
    `cases`, `metrics`, `synthetic`, `notes`.

    Raises:
        ValueError: no rows, or a reference that is not among the systems.
    """
    options = options or SummaryOptions()
    systems = list(dict.fromkeys(row.system for row in rows))
    reference = reference_of(systems, options.reference)
    others = [name for name in systems if name != reference and not is_ceiling(name)]
    organs = list(dict.fromkeys(row.organ for row in rows))
    return {
        "protocol": protocol,
        **_scores(rows, systems, options.seed),
        "organs": {
            organ: _scores([row for row in rows if row.organ == organ], systems, options.seed) for organ in organs
        },
        "knows_the_truth": [name for name in systems if is_ceiling(name)],
        "paired": paired_records(rows, reference, others, list(POINT_METRICS), options.seed),
        "reference": reference,
        "patients": len({row.patient for row in rows}),
        "cases": len({row.case_key for row in rows}),
        "metrics": {
            name: {"title": metric.title, "higher_is_better": metric.higher_is_better, "worst": metric.worst}
            for name, metric in POINT_METRICS.items()
        },
        "synthetic": options.synthetic,
        "notes": list(options.notes),
    }


def _scores(rows: Sequence[Row], systems: Sequence[str], seed: int) -> JsonDict:
    """`systems` and `ceiling` of some rows; the ceiling is that of the shapes, so one system's rows hold it."""
    groups = {name: [row for row in rows if row.system == name] for name in systems}
    found = {
        name: {
            "n": len(own),
            "failures": sum(row.failed for row in own),
            **{metric: asdict(summarise(own, metric, seed)) for metric in POINT_METRICS},
        }
        for name, own in groups.items()
        if own
    }
    shapes = groups[next(iter(found))]
    return {
        "systems": found,
        "ceiling": {metric: asdict(summarise(shapes, ceiling_of(metric), seed)) for metric in POINT_METRICS},
    }


def _cell(found: JsonDict, metric: str, mean: str = "mean", sign: bool = False) -> str:
    form = f"{{:{'+' if sign else ''}.{POINT_METRICS[metric].digits}f}}"
    text = form.format(found[mean])
    if found["ci_low"] is None:
        return text
    return f"{text} ({form.format(found['ci_low'])} to {form.format(found['ci_high'])})"


def _pooled(scores: JsonDict, knowing: Sequence[str]) -> list[str]:
    header = ["system", "cases", "failed", *(metric.title for metric in POINT_METRICS.values())]
    body = [
        [
            f"{name} (knows the truth)" if name in knowing else name,
            str(found["n"]),
            str(found["failures"]),
            *(_cell(found[metric], metric) for metric in POINT_METRICS),
        ]
        for name, found in scores["systems"].items()
    ]
    ceiling = [_CEILING, "", "", *(_cell(scores["ceiling"][metric], metric) for metric in POINT_METRICS)]
    return table(header, [ceiling, *body])


def _shapes(rows: Sequence[Row], metric: str) -> list[str]:
    """A line a shape: its ceiling, then the score of every system."""
    systems = list(dict.fromkeys(row.system for row in rows))
    by_key = {(row.case_key, row.system): row for row in rows}
    form = f"{{:.{POINT_METRICS[metric].digits}f}}"
    body = []
    for key, first in {row.case_key: row for row in rows}.items():
        own = [by_key[key, name] for name in systems]
        cells = [form.format(row.scores[metric]) + (" (failed)" if row.failed else "") for row in own]
        shape = f"{first.case}, {first.organ}, slice {first.slice_index}"
        body.append([shape, form.format(first.scores[ceiling_of(metric)]), *cells])
    return table(["shape", "ceiling", *systems], body)


def point_markdown_of(summary: JsonDict, rows: Sequence[Row]) -> str:
    """summary.md of a summary as `point_summary_of` makes it, and of its rows, which it lists shape by shape."""
    lines = [f"# Scores by {summary['protocol']}", "", RESEARCH_USE, ""]
    lines += [f"**{SYNTHETIC}**", ""] if summary["synthetic"] else []
    lines += [
        f"{summary['patients']} patients, {summary['cases']} shapes. Place and size are taken out of both surfaces, "
        "then ICP: these figures say nothing about where the organ is or how large. Two samplings of the truth itself "
        "reach the ceiling, not 1; it is a draw, too, and a score may pass it by some hundredths. Mean, with its 95 % "
        "bootstrap interval over patients; a failed case scores 0 and the largest distances.",
        "",
        *(f"- {note}" for note in summary["notes"]),
        *([""] if summary["notes"] else []),
    ]
    lines += ["## All shapes", "", *_pooled(summary, summary["knows_the_truth"])]
    if len(summary["organs"]) > 1:
        for organ, scores in summary["organs"].items():
            lines += [f"## {organ}", "", *_pooled(scores, summary["knows_the_truth"])]
    if summary["paired"]:
        body = [
            [f"{pair['first']} - {pair['second']}", POINT_METRICS[pair["metric"]].title, _difference(pair)]
            for pair in summary["paired"]
        ]
        lines += ["## Differences on the same shapes", ""]
        lines += table(["difference", "metric", "mean (95 % interval)"], body)
    for metric, column in POINT_METRICS.items():
        lines += [f"## {column.title} of each shape", "", *_shapes(rows, metric)]
    return "\n".join(lines)


def _difference(pair: JsonDict) -> str:
    return _cell(pair, pair["metric"], "mean_difference", sign=True)


def write_point_summary(
    out: Path, rows: Sequence[Row], protocol: str, options: SummaryOptions | None = None
) -> JsonDict:
    """Write summary.json and summary.md into the folder `out` and return what summary.json holds."""
    summary = point_summary_of(rows, protocol, options)
    write_json(out / "summary.json", summary)
    with atomic_path(out / "summary.md") as temporary:
        temporary.write_text(point_markdown_of(summary, rows), encoding="utf-8")
    return summary
