"""Intervals: mean and 95 % interval of system after system, for one metric."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from sam3d_objects.report.charts import GREY, Chart, Trace, colour, metric_axis, padded
from sam3d_objects.report.results import Results
from sam3d_objects.report.systems import kind, title

_LABEL_LENGTH = 24
_INTERVALS = "Mean and 95 % bootstrap interval over patients."
_CEILINGS = " Open diamonds are ceilings, which know the truth: no method can be expected above them."


def interval_chart(results: Results, metric: str) -> Chart:
    """Every system of an evaluation: ceilings first, then by falling mean Dice."""
    facts, systems = results.summary["metrics"][metric], results.summary["systems"]
    ranked = sorted(systems, key=lambda name: (kind(name) != "ceiling", -systems[name]["dice"]["mean"]))
    traces = [
        interval_trace(
            title(name),
            systems[name][metric],
            colour(results, name),
            12 if name == results.reference else 9,
            kind(name) == "ceiling",
        )
        for name in ranked
    ]
    words = [f"{title(name)} {systems[name][metric]['mean']:.2f}" for name in ranked]
    caption = _INTERVALS + (_CEILINGS if any(kind(name) == "ceiling" for name in ranked) else "")
    # An interval of one patient has no ends.
    reach = max(max(systems[name][metric]["ci_high"] or 0.0, systems[name][metric]["mean"]) for name in ranked)
    top = 1.0 if facts["kind"] == "overlap" else reach or 1.0
    return stacked(traces, words, facts, {**metric_axis(results, metric), "range": padded(top)}, caption)


def interval_trace(
    name: str, score: Mapping[str, Any], shade: str = GREY, size: int = 9, hollow: bool = False
) -> Trace:
    """A point with its interval; `score` has mean, ci_low and ci_high, which may be None."""
    low, high = (score[key] if score[key] is not None else score["mean"] for key in ("ci_low", "ci_high"))
    return {
        "type": "scatter",
        "mode": "markers",
        "name": escape(name),
        "x": [score["mean"]],
        "y": [f"{_label(name)}  <b>{score['mean']:.2f}</b>"],
        "cliponaxis": False,
        "error_x": {
            "array": [high - score["mean"]],
            "arrayminus": [score["mean"] - low],
            "thickness": 2.5,
            "width": 0,
        },
        "marker": {"color": shade, "size": size, "symbol": "diamond-open" if hollow else "circle"},
        "hovertemplate": f"{escape(name)}: %{{x:.3f}} ({low:.3f} to {high:.3f})<extra></extra>",
    }


def _label(name: str) -> str:
    """A long name goes on in a second line, so that a phone has room for the plot."""
    return escape(name).replace(", ", ",<br>", 1) if len(name) > _LABEL_LENGTH else escape(name)


def stacked(
    traces: Sequence[Trace], words: Sequence[str], facts: Mapping[str, Any], axis: Mapping[str, Any], caption: str
) -> Chart:
    """Traces of `interval_trace` one below the other, on an axis for a metric with `title` and `higher_is_better`."""
    layout = {
        "showlegend": False,
        "margin": {"l": 48, "r": 12, "t": 12, "b": 8},
        # Numbers on top, where the first of many rows is read; the heading names the metric.
        "xaxis": {**axis, "title": {}, "side": "top", "nticks": 6, "tickangle": 0, "ticks": "outside"},
        "yaxis": {"autorange": "reversed", "automargin": True, "fixedrange": True, "showgrid": False},
    }
    return Chart(
        f"{facts['title']}: {'higher' if facts['higher_is_better'] else 'lower'} is better",
        f"Mean {facts['title']} of each system: {', '.join(words)}.",
        caption,
        traces,
        layout,
        90 + 30 * len(traces),
    )
