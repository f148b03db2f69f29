"""Page: report.html, one file that works offline: no script, no link, every figure inside it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from sam3d_objects.files import atomic_path
from sam3d_objects.report.figures import (
    PREDICTED_COLOUR,
    TRUE_COLOUR,
    Picture,
    case_figure,
    distribution_figure,
    interval_figure,
)
from sam3d_objects.report.gallery import chosen_cases
from sam3d_objects.report.results import Results, read_results
from sam3d_objects.report.text import markdown_report
from sam3d_objects.report.verdict import claims, failure_sentence, hardest_sentence, interval

RESEARCH_USE = "Research use only, not for diagnosis."
SYNTHETIC = "These scans are SYNTHETIC phantoms: the figures show that the tool works and say nothing about patients."

_STYLE = """
:root { color-scheme: light dark; --line: #8886; --good: #1b7f4d; --bad: #b3261e; --open: #8a6d00; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 0 auto; padding: 1rem; }
h1, h2 { line-height: 1.2; } table { border-collapse: collapse; font-size: .85rem; } caption { text-align: left; }
th, td { border-bottom: 1px solid var(--line); padding: .25rem .5rem; text-align: right; }
th:first-child { text-align: left; } .scroll { overflow-x: auto; } .best { font-weight: 700; }
.claim { border-left: .4rem solid var(--open); padding: .1rem .8rem; margin: .6rem 0; font-size: 1.1rem; }
.better { border-color: var(--good); } .worse { border-color: var(--bad); }
.notice { border: 1px solid var(--line); padding: .4rem .8rem; border-radius: .4rem; }
figure { margin: 1rem 0; break-inside: avoid; } figure img { max-width: 100%; background: #fff; border-radius: .3rem; }
figcaption { font-size: .85rem; } .key { font-weight: 700; }
@media (prefers-color-scheme: dark) { :root { --good: #5fd39a; --bad: #ff8a80; --open: #ffd54f; } }
@media print { body { max-width: none; font-size: 11px; } h2 { break-after: avoid; } .scroll { overflow: visible; } }
"""


@dataclass(frozen=True)
class ReportFiles:
    """What `write_report` wrote."""

    html: Path
    markdown: Path


def write_report(folder: Path, title: str = "SAM 3D medical: evaluation") -> ReportFiles:
    """Write report.html and report.md into the folder of a finished evaluation.

    Args:
        folder: holds rows.csv, summary.json and, for the gallery, artefacts/.
        title: heading of the report.

    Raises:
        ValueError: the folder holds no finished evaluation.
        OSError: the report cannot be written.
    """
    results = read_results(folder)
    files = ReportFiles(folder / "report.html", folder / "report.md")
    with atomic_path(files.html) as temporary:
        temporary.write_text(html_report(results, title), encoding="utf-8")
    with atomic_path(files.markdown) as temporary:
        temporary.write_text(markdown_report(results, title), encoding="utf-8")
    return files


def html_report(results: Results, title: str) -> str:
    """The page: verdict, figures, tables, cases."""
    notices = [RESEARCH_USE, *([SYNTHETIC] if results.summary["synthetic"] else [])]
    sections = [
        f"<h1>{escape(title)}</h1>",
        *(f'<p class="notice"><strong>{escape(notice)}</strong></p>' for notice in notices),
        *_verdict(results),
        "<h2>All systems</h2>",
        *(_figure(interval_figure(results, metric)) for metric in ("dice", "hd95_mm")),
        _pooled(results),
        "<h2>By plane, kind of slice and organ</h2>",
        *(_figure(distribution_figure(results, attribute)) for attribute in _attributes(results)),
        *(_grouped(results, key) for key in ("planes", "slice_kinds", "organs")),
        *_gallery(results),
        *_about(results),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(sections)
        + "\n</main>\n</body>\n</html>\n"
    )


def _attributes(results: Results) -> list[str]:
    several_organs = len(results.summary["organs"]) > 1
    return ["plane", "slice_kind", *(["organ"] if several_organs else [])]


def _verdict(results: Results) -> list[str]:
    lines = [f'<p class="claim {claim.outcome}">{escape(claim.sentence)}</p>' for claim in claims(results)]
    facts = f"{failure_sentence(results)} {hardest_sentence(results)}"
    return ['<section aria-label="Verdict"><h2>Verdict</h2>', *lines, f"<p>{escape(facts)}</p></section>"]


def _figure(picture: Picture) -> str:
    return (
        f'<figure><img src="{picture.uri}" alt="{escape(picture.alt, quote=True)}">'
        f"<figcaption>{escape(picture.caption)}</figcaption></figure>"
    )


def _table(caption: str, heading: Sequence[str], body: Sequence[tuple[str, Sequence[tuple[str, bool]]]]) -> str:
    """A table; a body row is its name and cells of text and whether that is the best of its column."""
    top = "".join(f'<th scope="col">{escape(text)}</th>' for text in heading)
    rows = []
    for name, cells in body:
        text = "".join(f"<td{' class=best' if best else ''}>{escape(cell)}</td>" for cell, best in cells)
        rows.append(f'<tr><th scope="row">{escape(name)}</th>{text}</tr>')
    return (
        f'<div class="scroll"><table><caption>{escape(caption)}</caption><thead><tr>{top}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def digits(metric: Mapping[str, Any]) -> int:
    """How many digits after the point a metric is shown with."""
    return {"percent": 1, "distance": 2, "overlap": 3}[str(metric["kind"])]


def is_best(results: Results, scores: Mapping[str, Any], system: str, metric: str) -> bool:
    """Whether a system's mean, as it is printed, is the best among `scores` {system: {metric: ...}}."""
    facts = results.summary["metrics"][metric]
    means = {name: round(own[metric]["mean"], digits(facts)) for name, own in scores.items()}
    return means[system] == (max if facts["higher_is_better"] else min)(means.values())


def _pooled(results: Results) -> str:
    metrics, systems = results.summary["metrics"], results.summary["systems"]
    body = []
    for name, scores in systems.items():
        cells = [(str(scores["n"]), False), (str(scores["failures"]), False)]
        for metric, facts in metrics.items():
            cells.append((interval(scores[metric], digits(facts)), is_best(results, systems, name, metric)))
        body.append((name, cells))
    heading = ["system", "n", "failed", *(facts["title"] for facts in metrics.values())]
    return _table("Mean over all cases (95 % interval over patients); the best is bold.", heading, body)


def _grouped(results: Results, key: str) -> str:
    groups = results.summary[key]
    body = []
    for system in results.systems:
        cells = []
        for scores in groups.values():
            if system in scores:
                cells.append((interval(scores[system]["dice"]), is_best(results, scores, system, "dice")))
            else:
                cells.append(("", False))
        body.append((system, cells))
    return _table(f"Mean Dice by {key[:-1].replace('_', ' ')} (95 % interval).", ["system", *groups], body)


def _gallery(results: Results) -> list[str]:
    cases = chosen_cases(results)
    if not cases:
        return []
    key = (
        f'<p>Outlines: <span class="key" style="color:{TRUE_COLOUR}">true organ</span>, '
        f'<span class="key" style="color:{PREDICTED_COLOUR}">prediction</span>; the first picture is all that the '
        "model was given, with the mask in yellow.</p>"
    )
    sections = [f"<h2>Cases of {escape(results.reference)}</h2>", key]
    for heading, row, artefact in cases:
        sections += [f"<h3>{escape(heading)}</h3>", _figure(case_figure(row, artefact))]
    return sections


def _about(results: Results) -> list[str]:
    notes = "".join(f"<li>{escape(str(note))}</li>" for note in results.summary["notes"])
    return [
        "<h2>How this was measured</h2>",
        f"<p>{results.summary['patients']} test patients, {results.summary['cases']} slices; patient millimetres, "
        "nothing is aligned to the truth. Intervals are 95 % bootstrap intervals over patients; differences are "
        "paired, on the same cases. A failed case scores overlap 0, volume error 100 % and the diagonal of the "
        "scan.</p>",
        f"<ul>{notes}</ul>" if notes else "",
    ]
