"""Figures: drawn by matplotlib without a display, handed over as data URIs so that the report is one file."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sam3d_objects.arrays import AnyArray
from sam3d_objects.report.results import Results, Row

TRUE_COLOUR = "#1b9e77"
PREDICTED_COLOUR = "#d95f02"  # these two are told apart by colour-blind readers (ColorBrewer Dark2)
_COLOURS = ("#7570b3", "#1b9e77", "#e7298a", "#66a61e", "#e6ab02", "#a6761d", "#666666")


@dataclass(frozen=True)
class Picture:
    """A figure.

    Args:
        uri: data URI of an SVG or PNG.
        alt: what it shows, for those who do not see it.
        caption: below it.
    """

    uri: str
    alt: str
    caption: str


def _uri(figure: Any, kind: str) -> str:
    import matplotlib

    stream = io.BytesIO()
    # A fixed salt and no date: the same rows give the same file.
    with matplotlib.rc_context({"svg.hashsalt": "sam3d-medical"}):
        figure.savefig(stream, format=kind, dpi=110, metadata={"Date": None} if kind == "svg" else None)
    mime = {"svg": "image/svg+xml", "png": "image/png"}[kind]
    return f"data:{mime};base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"


def interval_figure(results: Results, metric: str) -> Picture:
    """Mean and 95 % interval of every system for one metric."""
    from matplotlib.figure import Figure

    title = results.summary["metrics"][metric]["title"]
    systems = results.systems
    figure = Figure(figsize=(6.4, 0.7 + 0.36 * len(systems)), layout="constrained")
    axes = figure.subplots()
    words = []
    for number, system in enumerate(systems):
        score = results.summary["systems"][system][metric]
        colour = PREDICTED_COLOUR if system == results.reference else "#555555"
        if score["ci_low"] is not None:
            axes.plot([score["ci_low"], score["ci_high"]], [number, number], color=colour, linewidth=2)
        axes.plot([score["mean"]], [number], "o", color=colour)
        words.append(f"{system} {score['mean']:.2f}")
    axes.set_yticks(range(len(systems)), systems)
    axes.invert_yaxis()
    axes.set_xlabel(title)
    axes.grid(axis="x", alpha=0.3)
    if results.summary["metrics"][metric]["kind"] == "overlap":
        axes.set_xlim(0, 1)
    else:
        axes.set_xlim(left=0)
    caption = f"{title}: mean and 95 % bootstrap interval over patients."
    return Picture(_uri(figure, "svg"), f"Mean {title} of each system: {', '.join(words)}.", caption)


def distribution_figure(results: Results, attribute: str, metric: str = "dice") -> Picture:
    """Box plots of one metric for every system, grouped by a column of the rows (`plane`, `organ`, `slice_kind`)."""
    from matplotlib.figure import Figure

    groups = list(dict.fromkeys(str(getattr(row, attribute)) for row in results.rows))
    systems, title = results.systems, results.summary["metrics"][metric]["title"]
    figure = Figure(figsize=(max(6.4, 1.2 + 0.34 * len(groups) * (len(systems) + 1)), 3.4), layout="constrained")
    axes = figure.subplots()
    words, handles = [], []
    for number, system in enumerate(systems):
        values = [
            [row.scores[metric] for row in results.of_system(system) if str(getattr(row, attribute)) == group]
            for group in groups
        ]
        places = [place * (len(systems) + 1) + number for place in range(len(groups))]
        colour = PREDICTED_COLOUR if system == results.reference else _COLOURS[number % len(_COLOURS)]
        boxes = axes.boxplot(
            values,
            positions=places,
            widths=0.7,
            patch_artist=True,
            manage_ticks=False,
            boxprops={"facecolor": colour, "alpha": 0.65},
            medianprops={"color": "black"},
            flierprops={"markersize": 3},
        )
        handles.append(boxes["boxes"][0])
        medians = ", ".join(
            f"{group} {np.median(some):.2f}" for group, some in zip(groups, values, strict=True) if some
        )
        words.append(f"{system}: {medians}")
    middle = (len(systems) - 1) / 2
    axes.set_xticks([place * (len(systems) + 1) + middle for place in range(len(groups))], groups)
    axes.set_ylabel(title)
    if results.summary["metrics"][metric]["kind"] == "overlap":
        axes.set_ylim(0, 1)
    axes.grid(axis="y", alpha=0.3)
    figure.legend(handles, systems, loc="outside upper center", ncols=min(len(systems), 5), frameon=False)
    name = attribute.replace("_", " ")
    caption = f"{title} by {name}: median, quartiles and range (points lie further than 1.5 quartile distances away)."
    return Picture(_uri(figure, "svg"), f"Median {title} by {name}. {'; '.join(words)}.", caption)


def case_figure(row: Row, artefact: dict[str, AnyArray]) -> Picture:
    """One case: what the model was given, then the true and the predicted cut in three planes."""
    from matplotlib.figure import Figure

    names = [str(name) for name in artefact["views"]]
    figure = Figure(figsize=(2.5 * (len(names) + 1), 2.9), layout="constrained")
    panels: Sequence[Any] = figure.subplots(1, len(names) + 1)
    _show(panels[0], artefact["slice_image"], artefact["slice_spacing_mm"])
    _outline(panels[0], artefact["slice_mask"], "#ffd92f")
    panels[0].set_title(f"given: {row.plane}, mask")
    for number, name in enumerate(names):
        panel = panels[number + 1]
        _show(panel, artefact[f"view{number}_image"], artefact[f"view{number}_spacing_mm"])
        _outline(panel, artefact[f"view{number}_truth"], TRUE_COLOUR)
        _outline(panel, artefact[f"view{number}_prediction"], PREDICTED_COLOUR)
        panel.set_title(f"{name}{' (given)' if number == 0 else ''}")
    found = "no prediction" if row.failed else f"Dice {row.scores['dice']:.3f}, HD95 {row.scores['hd95_mm']:.1f} mm"
    alt = (
        f"{row.title}: the slice with its mask, and outlines of the true and the predicted organ in "
        f"{', '.join(names)} planes; {found}."
    )
    caption = f"{row.title}. {found}. {row.reason}".strip()
    return Picture(_uri(figure, "png"), alt, caption)


def _show(panel: Any, image: AnyArray, spacing_mm: AnyArray) -> None:
    panel.imshow(image, cmap="gray", vmin=0, vmax=255, aspect=float(spacing_mm[0] / spacing_mm[1]))
    panel.set_axis_off()


def _outline(panel: Any, mask: AnyArray, colour: str) -> None:
    if mask.any():
        # A border of background closes the outline of a mask that fills its picture.
        rows, cols = (np.arange(-1, size + 1) for size in mask.shape)
        panel.contour(cols, rows, np.pad(mask, 1).astype(float), levels=[0.5], colors=[colour], linewidths=1.6)
