"""Tables: summary.md, what a summary says to people."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sam3d_objects.evaluation.ceilings import is_ceiling
from sam3d_objects.evaluation.metrics import METRICS

RESEARCH_USE = "For research use, not for diagnosis."
SYNTHETIC = "The scans are SYNTHETIC phantoms: these figures say that the tool works, nothing about patients."
CEILINGS_NOTE = (
    "Systems that know the truth are ceilings, not methods: they show what the scorer, a grid or an encoder leaves of "
    "the true organ. They are never bold."
)

JsonDict = dict[str, Any]


def _number(value: float, metric: str) -> str:
    digits = {"percent": 1, "distance": 2, "volume": 2, "overlap": 3}[METRICS[metric].kind]
    return f"{value:.{digits}f}"


def _cell(score: Mapping[str, Any], metric: str, best: bool) -> str:
    text = _number(score["mean"], metric)
    text = f"**{text}**" if best else text
    if score["ci_low"] is None:
        return text
    return f"{text} ({_number(score['ci_low'], metric)} to {_number(score['ci_high'], metric)})"


def _best(systems: JsonDict, metric: str) -> str:
    """The best mean of a method as it is printed, so that equal figures are bold together; a ceiling is no method."""
    means = [scores[metric]["mean"] for name, scores in systems.items() if not is_ceiling(name)]
    if not means:
        return ""
    return _number(max(means) if METRICS[metric].higher_is_better else min(means), metric)


def table(heading: Sequence[str], body: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table, and an empty one."""
    lines = [f"| {' | '.join(heading)} |", "|" + "---|" * len(heading)]
    return [*lines, *(f"| {' | '.join(cells)} |" for cells in body), ""]


def _marked(system: str) -> str:
    """A system's name; a ceiling's says so."""
    return f"{system} (knows the truth)" if is_ceiling(system) else system


def _is_best(system: str, score: Mapping[str, Any], metric: str, best: str) -> bool:
    return not is_ceiling(system) and _number(score["mean"], metric) == best


def _pooled_table(systems: JsonDict, metrics: Sequence[str]) -> list[str]:
    best = {metric: _best(systems, metric) for metric in metrics}
    body = [
        [
            _marked(name),
            str(scores["n"]),
            str(scores["failures"]),
            *(_cell(scores[m], m, _is_best(name, scores[m], m, best[m])) for m in metrics),
        ]
        for name, scores in systems.items()
    ]
    return table(["system", "n", "failed", *(METRICS[metric].title for metric in metrics)], body)


def _middle_table(summary: JsonDict, metrics: Sequence[str]) -> list[str]:
    """Medians with quartiles, and what a prediction takes."""
    body = []
    for name, scores in summary["systems"].items():
        cells = []
        for metric in metrics:
            low, high = (_number(value, metric) for value in summary["quartiles"][name][metric])
            cells.append(f"{_number(scores[metric]['median'], metric)} ({low} to {high})")
        costs = summary["costs"][name]
        peak = "" if costs["peak_mib"] is None else f"{costs['peak_mib']:.0f}"
        body.append([_marked(name), *cells, f"{costs['seconds_median']:.2f}", peak])
    titles = [METRICS[metric].title for metric in metrics]
    return table(["system", *titles, "seconds", "peak memory (MiB)"], body)


def _grouped_table(groups: JsonDict, systems: Sequence[str], metric: str) -> list[str]:
    best = {group: _best(scores, metric) for group, scores in groups.items()}
    body = []
    for system in systems:
        cells = [_marked(system)]
        for group, scores in groups.items():
            score = scores[system][metric] if system in scores else None
            cells.append("" if score is None else _cell(score, metric, _is_best(system, score, metric, best[group])))
        body.append(cells)
    return table(["system", *groups], body)


def _paired_table(paired: Sequence[JsonDict]) -> list[str]:
    body = []
    for pair in paired:
        if pair["metric"] not in ("dice", "hd95_mm"):
            continue
        text = _cell({**pair, "mean": pair["mean_difference"]}, pair["metric"], False)
        body.append([f"{pair['first']} - {_marked(pair['second'])}", METRICS[pair["metric"]].title, text])
    return table(["difference", "metric", "mean (95 % interval)"], body)


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
    metrics = [name for name, metric in summary["metrics"].items() if not metric["shape_only"]]
    shape = [name for name in summary["metrics"] if name not in metrics]
    if summary["ceilings"]:
        lines += [f"{CEILINGS_NOTE}", ""]
    lines += ["## All cases", "", *_pooled_table(systems, metrics)]
    if shape:
        lines += ["## Shape alone: place and size are not judged", "", *_pooled_table(systems, shape)]
    lines += ["## Median (quartiles) and what a prediction takes", "", *_middle_table(summary, metrics[:3])]
    for key, title in (("planes", "plane"), ("slice_kinds", "kind of slice"), ("organs", "organ")):
        for metric in ("dice", "hd95_mm"):
            lines += [f"## {METRICS[metric].title} by {title}", ""]
            lines += _grouped_table(summary[key], list(systems), metric)
    if summary["paired"]:
        lines += [f"## {summary['reference']} against the others, on the same cases", ""]
        lines += _paired_table(summary["paired"])
    return "\n".join(lines)
