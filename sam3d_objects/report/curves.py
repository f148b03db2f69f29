"""Curves: how training went, and whether the stated spread of a surface can be believed."""

from collections.abc import Mapping, Sequence
from typing import Any

from sam3d_objects.report.charts import GREY, LEGEND, PREDICTED_COLOUR, TRUE_COLOUR, Chart, Trace
from sam3d_objects.report.results import Results


def training_charts(results: Results) -> list[Chart]:
    """For each trained stage its loss and, where it was judged by volumes, its validation Dice, by epoch."""
    charts = []
    for stage, history in results.histories.items():
        of_stage = f" of the {stage} stage" if stage else ""
        losses = [
            _curve(history, "train", "loss", "training", GREY),
            _curve(history, "validation", "loss", "validation patients", PREDICTED_COLOUR),
        ]
        charts.append(_by_epoch(f"Training loss{of_stage}", "loss", [loss for loss in losses if loss["x"]], {}))
        dice = _curve(history, "validation", "dice", "validation patients", PREDICTED_COLOUR)
        if dice["x"]:
            charts.append(_by_epoch(f"Validation Dice{of_stage}", "Dice", [dice], {"range": [0, 1]}))
    return charts


def _curve(history: Sequence[Mapping[str, Any]], part: str, value: str, name: str, colour: str) -> Trace:
    rows = [row for row in history if value in row.get(part, {})]
    return {
        "type": "scatter",
        "mode": "lines+markers" if part == "validation" else "lines",
        "name": name,
        "x": [row["epoch"] for row in rows],
        "y": [row[part][value] for row in rows],
        "line": {"color": colour, "width": 2},
        "hovertemplate": f"epoch %{{x}}: %{{y:.4f}}<extra>{name}</extra>",
    }


def _by_epoch(heading: str, axis: str, curves: Sequence[Trace], limits: Mapping[str, Any]) -> Chart:
    words = [f"{curve['name']} from {curve['y'][0]:.3f} to {curve['y'][-1]:.3f}" for curve in curves]
    epochs = max((curve["x"][-1] for curve in curves), default=0)
    layout = {
        "legend": LEGEND,
        "showlegend": True,
        "xaxis": {"title": {"text": "epoch"}, "fixedrange": True},
        "yaxis": {"title": {"text": axis}, "fixedrange": True, **limits},
    }
    return Chart(
        heading,
        f"{heading} over {epochs} epochs: {'; '.join(words)}.",
        "Training figures are means over an epoch; nothing is learnt from validation patients.",
        curves,
        layout,
    )


def calibration_chart(results: Results) -> Chart | None:
    """How often the true surface lies within the stated spread; None where the evaluation measured none.

    Raises:
        ValueError: calibration.json is not what it should be.
    """
    found = results.calibration
    if found is None:
        return None
    levels, within = found.get("levels"), found.get("within")
    if not levels or not within or len(levels) != len(within):
        raise ValueError(
            f"{results.folder / 'calibration.json'}: expected `levels` and `within` of one length, "
            f"got {levels} and {within}; evaluate again"
        )
    curves = [_line("stated = found", [0, 1], [0, 1], GREY), _line("found", levels, within, TRUE_COLOUR)]
    curves[0]["line"]["dash"] = "dot"
    words = ", ".join(f"{stated:.0%} stated, {share:.0%} found" for stated, share in zip(levels, within, strict=True))
    axes = [
        {"title": {"text": text}, "range": [0, 1], "tickformat": ".0%", "fixedrange": True}
        for text in ("stated", "found")
    ]
    return Chart(
        "Calibration of the stated spread",
        f"How often the true surface lies within the stated spread: {words}.",
        "Share of the surface that lies as near to the truth as its spread states. Below the dotted line the model is "
        f"surer than it may be. {found.get('n', '?')} predictions.",
        curves,
        {"legend": LEGEND, "xaxis": axes[0], "yaxis": axes[1]},
        380,
    )


def _line(name: str, x: Sequence[float], y: Sequence[float], colour: str) -> Trace:
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": name,
        "x": list(x),
        "y": list(y),
        "line": {"color": colour, "width": 2},
        "hovertemplate": "stated %{x:.0%}, found %{y:.0%}<extra></extra>",
    }
