"""Tables: all figures of an evaluation, pooled, by group and pair by pair."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from sam3d_objects.report.html import Cell, table, tag
from sam3d_objects.report.results import Results
from sam3d_objects.report.systems import CEILING_MEANING, description, kind, title
from sam3d_objects.report.verdict import claims, interval, outcome

_OUTCOMES = {"better": "better", "worse": "worse", "open": "not told apart", "unknown": "one patient"}


def digits(metric: Mapping[str, Any]) -> int:
    """How many digits after the point a metric is shown with."""
    return {"percent": 1, "distance": 2, "volume": 2, "overlap": 3}[str(metric["kind"])]


def is_best(results: Results, scores: Mapping[str, Any], system: str, metric: str) -> bool:
    """Whether a system's mean, as it is printed, is the best among `scores` {system: {metric: ...}} but ceilings."""
    facts = results.summary["metrics"][metric]
    means = {name: round(own[metric]["mean"], digits(facts)) for name, own in scores.items() if kind(name) != "ceiling"}
    return system in means and means[system] == (max if facts["higher_is_better"] else min)(means.values())


def pooled_table(results: Results) -> str:
    """Every system, by the metrics in patient space."""
    systems = results.summary["systems"]
    shown = [name for name, facts in results.summary["metrics"].items() if not facts.get("shape_only")]
    body = []
    for name, scores in systems.items():
        seconds = float(np.median([row.seconds for row in results.of_system(name)]))
        counts = [Cell(str(scores["n"])), Cell(str(scores["failures"]), "worse" if scores["failures"] else "")]
        body.append(
            (title(name), _mark(results, name), [*counts, *_scores(results, name, shown), Cell(f"{seconds:.2g}")])
        )
    heading = ["system", "n", "failed", *_titles(results, shown), "s a slice"]
    caption = "All cases: mean with its 95 % interval; the best of each column is bold, ceilings left out."
    return table(caption, heading, body)


def shape_table(results: Results) -> str:
    """Every system by shape alone, marked as such; empty where that was not measured."""
    shown = [name for name, facts in results.summary["metrics"].items() if facts.get("shape_only")]
    if not shown:
        return ""
    body = [(title(name), _mark(results, name), _scores(results, name, shown)) for name in results.systems]
    caption = (
        "Shape only: place and size are taken out first, so these say nothing about where an organ is or how large. "
        "Mean with its 95 % interval."
    )
    return table(caption, ["system", *_titles(results, shown)], body)


def _titles(results: Results, metrics: Sequence[str]) -> list[str]:
    return [str(results.summary["metrics"][metric]["title"]) for metric in metrics]


def _scores(results: Results, system: str, metrics: Sequence[str]) -> list[Cell]:
    facts, systems = results.summary["metrics"], results.summary["systems"]
    return [
        Cell.split(
            interval(systems[system][metric], digits(facts[metric])),
            "best" if is_best(results, systems, system, metric) else "",
        )
        for metric in metrics
    ]


def grouped_table(results: Results, key: str) -> str:
    """Mean Dice by `planes`, `slice_kinds` or `organs`."""
    groups = results.summary[key]
    body = []
    for system in results.systems:
        cells = []
        for scores in groups.values():
            if system in scores:
                best = is_best(results, scores, system, "dice")
                cells.append(Cell.split(interval(scores[system]["dice"]), "best" if best else ""))
            else:
                cells.append(Cell(""))
        body.append((title(system), _mark(results, system), cells))
    return table(f"Mean Dice by {key[:-1].replace('_', ' ')} (95 % interval).", ["system", *groups], body)


def paired_table(results: Results) -> str:
    """The reference minus every other system, on the same cases; empty when it was judged alone."""
    metrics = results.summary["metrics"]
    pairs = {(pair["second"], pair["metric"]): pair for pair in results.summary["paired"]}
    shown = [name for name in ("dice", "hd95_mm") if name in metrics]
    body = []
    for other in dict.fromkeys(second for second, _ in pairs):
        cells = []
        for metric in shown:
            found = outcome(pairs[other, metric], metrics[metric]["higher_is_better"])
            difference = interval(pairs[other, metric], digits(metrics[metric]), "mean_difference", "+")
            verdict = Cell("a ceiling") if kind(other) == "ceiling" else Cell(_OUTCOMES[found], found)
            cells += [Cell.split(difference), verdict]
        body.append((title(other), _mark(results, other), cells))
    if not body:
        return ""
    heading = ["against"]
    for metric in shown:
        heading += [f"{metrics[metric]['title']} difference", "verdict"]
    name = title(results.reference)
    return table(f"The {name} minus each other system, on the same cases (95 % interval, paired).", heading, body)


def words_used(results: Results) -> str:
    """The names that the plots use and the verdict did not explain; variants are one entry, and so are ceilings."""
    told = [claim.against for claim in claims(results)]
    variants = [title(name).split(", ", 1)[1] for name in results.systems if kind(name) == "variant"]
    lines: dict[str, str] = {}
    for name in results.systems:
        if kind(name) == "ceiling":
            lines["ceiling"] = CEILING_MEANING
        elif kind(name) == "variant":
            lines[", ".join(dict.fromkeys(variants))] = (
                "the model with other settings; K is how many samples are averaged"
            )
        elif description(name) and name not in told:
            lines[title(name)] = description(name)
    pairs = "".join(f"<div>{tag('dt', name)}{tag('dd', meaning)}</div>" for name, meaning in lines.items())
    return f'<dl class="words" aria-label="What the names mean">{pairs}</dl>' if pairs else ""


def glossary(results: Results) -> str:
    """What each system is, and its name in the files."""
    lines = []
    for name in results.systems:
        meaning = description(name)
        lines.append(
            f"<dt>{escape(title(name))} <code>{escape(name)}</code></dt>{tag('dd', meaning) if meaning else ''}"
        )
    return f'<dl class="glossary">{"".join(lines)}</dl>'


def _mark(results: Results, system: str) -> str:
    if system == results.reference:
        return "reference"
    return "ceiling" if kind(system) == "ceiling" else ""
