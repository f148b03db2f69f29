"""Points: the report of an evaluation by a published protocol of point clouds, each score beside its ceiling."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sam3d_objects.files import read_json
from sam3d_objects.report.charts import GREY, PREDICTED_COLOUR, Chart, padded
from sam3d_objects.report.html import Cell, chart, notices, table, tag, whole_page
from sam3d_objects.report.intervals import interval_trace, stacked
from sam3d_objects.report.systems import kind, phrase, title
from sam3d_objects.report.text import markdown_table
from sam3d_objects.report.verdict import interval

CEILING = "ceiling: the truth, sampled again"
_METHOD = (
    "Place and size are taken out of both surfaces, then they are aligned: these figures say nothing about where an "
    "organ is or how large. Two samplings of the truth itself reach the ceiling, not 1; it is a draw, too, and a "
    "score may pass it by some hundredths. A failed case scores 0 and the largest distances."
)
_CAPTION = "Mean and 95 % bootstrap interval over patients; open diamonds know the truth."


@dataclass(frozen=True)
class PointResults:
    """A folder scored by a protocol: its summary.json, and rows.csv as text."""

    summary: Mapping[str, Any]
    rows: Sequence[Mapping[str, str]]

    @property
    def metrics(self) -> Mapping[str, Mapping[str, Any]]:
        """Metric name -> its title and whether higher is better."""
        return dict(self.summary["metrics"])


def is_point_evaluation(folder: Path) -> bool:
    """Whether a folder was scored by a protocol, and not in patient space."""
    path = folder / "summary.json"
    return path.is_file() and "protocol" in read_json(path)


def read_points(folder: Path) -> PointResults:
    """Read rows.csv and summary.json of a protocol.

    Raises:
        ValueError: rows.csv is missing.
    """
    path = folder / "rows.csv"
    if not path.is_file():
        raise ValueError(f"{folder} holds no finished evaluation: rows.csv is missing; run the evaluation first")
    with open(path, newline="", encoding="utf-8") as stream:
        return PointResults(read_json(folder / "summary.json"), list(csv.DictReader(stream)))


def point_page(results: PointResults, heading: str) -> str:
    """report.html: what the reference reaches of the ceiling, plots, all systems, every shape."""
    summary = results.summary
    every = f"Every shape: the {title(summary['reference'])}, and the ceiling"
    shown = [name for name in ("f1", "voxel_dice") if name in results.metrics]
    charts = "".join(chart(_chart(results, name), f"chart-{name}") for name in shown)
    sections = [
        f"<header>{tag('h1', heading)}{notices(summary['synthetic'])}</header>",
        f'<section class="verdict">{tag("h2", "Verdict")}{tag("p", _headline(results), "headline")}',
        f"{tag('p', _METHOD)}</section>",
        f'<section>{tag("h2", "Beside the ceiling")}<div class="charts">{charts}</div></section>',
        f"<section>{tag('h2', 'All systems')}{_pooled(results)}</section>",
        f"<section>{tag('h2', every)}{_shapes(results)}",
        "</section>",
        "".join(tag("p", str(note)) for note in summary["notes"]),
    ]
    return whole_page(heading, sections)


def point_markdown(results: PointResults, heading: str) -> str:
    """report.md: the same tables."""
    summary, metrics = results.summary, results.metrics
    lines = [f"# {heading}", "", "Research use only, not for diagnosis.", ""]
    lines += ["**The scans are SYNTHETIC phantoms.**", ""] if summary["synthetic"] else []
    lines += [f"**{_headline(results)}** {_METHOD}", "", *(f"- {note}" for note in summary["notes"]), ""]
    body = [
        [name, count, failed, *(interval(score[metric], _digits(metric)) for metric in metrics)]
        for name, count, failed, score in _lines(results)
    ]
    lines += markdown_table(["system", "n", "failed", *(facts["title"] for facts in metrics.values())], body)
    shapes = [[shape, *cells] for shape, cells in _shape_lines(results)]
    lines += markdown_table(["shape", *(f"{facts['title']} (ceiling)" for facts in metrics.values())], shapes)
    return "\n".join(lines)


def _digits(metric: str) -> int:
    return 4 if metric in ("chamfer", "emd") else 3


def _headline(results: PointResults) -> str:
    summary = results.summary
    name = phrase(summary["reference"])
    own, ceiling = summary["systems"][summary["reference"]], summary["ceiling"]
    parts = [
        f"{facts['title']} {own[metric]['mean']:.2f} where the ceiling is {ceiling[metric]['mean']:.2f}"
        for metric, facts in results.metrics.items()
        if facts["higher_is_better"]
    ]
    return f"By {summary['protocol']}, {name} reaches {', '.join(parts)}; {own['failures']} of {own['n']} failed."


def _chart(results: PointResults, metric: str) -> Chart:
    summary, facts = results.summary, results.metrics[metric]
    systems = summary["systems"]
    traces = [interval_trace(CEILING, summary["ceiling"][metric], hollow=True)]
    words = [f"{CEILING} {summary['ceiling'][metric]['mean']:.2f}"]
    for name in sorted(systems, key=lambda name: (kind(name) != "ceiling", -systems[name][metric]["mean"])):
        shade = PREDICTED_COLOUR if name == summary["reference"] else GREY
        traces.append(interval_trace(title(name), systems[name][metric], shade, hollow=kind(name) == "ceiling"))
        words.append(f"{title(name)} {systems[name][metric]['mean']:.2f}")
    axis = {"title": {"text": facts["title"]}, "range": padded(1.0), "fixedrange": True}
    return stacked(traces, words, facts, axis, _CAPTION)


def _lines(results: PointResults) -> list[tuple[str, str, str, Mapping[str, Any]]]:
    """Name, n, failures and scores, the ceiling first."""
    systems = results.summary["systems"]
    rows = [(title(name), str(own["n"]), str(own["failures"]), own) for name, own in systems.items()]
    return [(CEILING, "", "", results.summary["ceiling"]), *rows]


def _pooled(results: PointResults) -> str:
    body = []
    for name, count, failed, score in _lines(results):
        cells = [Cell.split(interval(score[metric], _digits(metric))) for metric in results.metrics]
        mark = "reference" if name == title(results.summary["reference"]) else ""
        body.append((name, "ceiling" if name == CEILING else mark, [Cell(count), Cell(failed), *cells]))
    heading = ["system", "n", "failed", *(str(facts["title"]) for facts in results.metrics.values())]
    return table("Mean with its 95 % bootstrap interval over patients.", heading, body)


def _shape_lines(results: PointResults) -> list[tuple[str, list[str]]]:
    """Each shape of the reference: every score with its ceiling in brackets."""
    lines = []
    for row in results.rows:
        if row["system"] == results.summary["reference"]:
            cells = [
                f"{float(row[name]):.{_digits(name)}f} ({float(row[f'{name}_ceiling']):.{_digits(name)}f})"
                for name in results.metrics
            ]
            failed = " (failed)" if row["failed"] == "true" else ""
            lines.append((f"{row['case']}, {row['organ']}, {row['plane']} slice {row['slice_index']}{failed}", cells))
    return lines


def _shapes(results: PointResults) -> str:
    body = [(shape, "", [Cell.split(text) for text in cells]) for shape, cells in _shape_lines(results)]
    heading = ["shape", *(str(facts["title"]) for facts in results.metrics.values())]
    return table("Each score, and below it the ceiling of its shape.", heading, body)
