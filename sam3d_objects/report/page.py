"""Page: report.html, one file that works offline; scripts, styles and figures are inside, and it may load nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from sam3d_objects.files import atomic_path
from sam3d_objects.report.charts import Chart, distribution_chart
from sam3d_objects.report.curves import calibration_chart, training_charts
from sam3d_objects.report.facts import facts
from sam3d_objects.report.gallery import gallery
from sam3d_objects.report.html import chart, notices, tag, whole_page
from sam3d_objects.report.intervals import interval_chart
from sam3d_objects.report.points import is_point_evaluation, point_markdown, point_page, read_points
from sam3d_objects.report.position import position_chart
from sam3d_objects.report.results import Results, read_results
from sam3d_objects.report.systems import description, phrase
from sam3d_objects.report.tables import glossary, grouped_table, paired_table, pooled_table, shape_table, words_used
from sam3d_objects.report.text import markdown_report
from sam3d_objects.report.verdict import Claim, claims, failure_sentence, hardest_sentence, headline, task_sentence

_CHIPS = {"better": "▲ better", "worse": "▼ worse", "open": "≈ not told apart", "unknown": "? one patient"}


@dataclass(frozen=True)
class ReportFiles:
    """What `write_report` wrote."""

    html: Path
    markdown: Path


def write_report(folder: Path, title: str = "SAM 3D medical: evaluation") -> ReportFiles:
    """Write report.html and report.md into the folder of a finished evaluation.

    Args:
        folder: holds rows.csv and summary.json, of patient space or of a protocol, and, where there are, artefacts/
            (for the gallery), history.json or history_STAGE.json (training curves) and calibration.json.
        title: heading of the report.

    Raises:
        ValueError: the folder holds no finished evaluation, or a file in it is not what it should be.
        OSError: the report cannot be written.
    """
    if is_point_evaluation(folder):
        points = read_points(folder)
        html, markdown = point_page(points, title), point_markdown(points, title)
    else:
        results = read_results(folder)
        html, markdown = html_report(results, title), markdown_report(results, title)
    written = ReportFiles(folder / "report.html", folder / "report.md")
    for path, text in ((written.html, html), (written.markdown, markdown)):
        with atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return written


def html_report(results: Results, title: str) -> str:
    """The page: verdict, plots, cases, tables, method."""
    sections = [
        f"<header>{tag('h1', title)}{notices(results.summary['synthetic'])}{tag('p', task_sentence(results), 'task')}"
        "</header>",
        _verdict(results),
        *_plots(results),
        *gallery(results),
        "<section>",
        tag("h2", "All figures"),
        paired_table(results),
        pooled_table(results),
        shape_table(results),
        *(grouped_table(results, key) for key in ("planes", "slice_kinds", "organs")),
        "</section>",
        _about(results),
    ]
    return whole_page(title, sections)


def _verdict(results: Results) -> str:
    cards = "".join(_card(claim) for claim in claims(results))
    return (
        f'<section aria-label="Verdict" class="verdict">{tag("h2", "Verdict")}{tag("p", headline(results), "headline")}'
        f'<div class="claims">{cards}</div>{facts(results)}'
        f"<p>{escape(failure_sentence(results))} {escape(hardest_sentence(results))}</p></section>"
    )


def _card(claim: Claim) -> str:
    pair = claim.pair
    limits = "" if pair["ci_low"] is None else f" ({signed(pair['ci_low'])} to {signed(pair['ci_high'])})"
    meaning = description(claim.against)
    rival = escape(phrase(claim.against)) + (f" {tag('small', meaning)}" if meaning else "")
    return (
        f'<div class="claim {claim.outcome}"><p class="against">against {rival}</p>'
        f'<p class="chip">{_CHIPS[claim.outcome]}</p><p class="difference">{signed(pair["mean_difference"])} '
        f"<small>Dice{limits}</small></p>{tag('p', claim.sentence)}</div>"
    )


def signed(value: float) -> str:
    """A difference with its sign, which is a minus sign and no hyphen."""
    return f"{value:+.3f}".replace("-", "\N{MINUS SIGN}")


def _plots(results: Results) -> list[str]:
    """Systems side by side, then what the score depends on, then training and calibration."""
    groups: list[tuple[str, Sequence[Chart]]] = [
        ("Systems side by side", [interval_chart(results, metric) for metric in ("dice", "hd95_mm")]),
        (
            "What the score depends on",
            [
                *(distribution_chart(results, attribute) for attribute in ("organ", "plane", "slice_kind")),
                position_chart(results),
            ],
        ),
    ]
    training, calibration = training_charts(results), calibration_chart(results)
    if training or calibration:
        words = [*(["Training"] if training else []), *(["calibration"] if calibration else [])]
        heading = " and ".join(words)
        groups.append((heading.capitalize(), [*training, *([calibration] if calibration else [])]))
    sections = []
    for number, (heading, charts) in enumerate(groups):
        drawn = "".join(chart(one, f"chart-{number}-{place}") for place, one in enumerate(charts))
        meanings = words_used(results) if number == 0 else ""
        sections.append(f'<section>{tag("h2", heading)}{meanings}<div class="charts">{drawn}</div></section>')
    return sections


def _about(results: Results) -> str:
    notes = "".join(tag("li", str(note)) for note in results.summary["notes"])
    method = (
        f"{results.summary['patients']} test patients, {results.summary['cases']} slices; patient millimetres, nothing "
        "is aligned to the truth. Intervals are 95 % bootstrap intervals over patients; differences are paired, on the "
        "same cases. A failed case scores overlap 0, volume error 100 % and the diagonal of the scan."
    )
    return (
        f"<section>{tag('h2', 'How this was measured')}{tag('p', method)}{f'<ul>{notes}</ul>' if notes else ''}"
        f"{glossary(results)}</section>"
    )
