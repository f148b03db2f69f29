"""Charts: figures as Plotly reads them (https://plotly.com/javascript/reference), with words for who cannot see them.

A chart holds plain data; colours that depend on the theme are added by page.js, which draws it. Plotly reads texts as
a little HTML, so those from outside are escaped.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np

from sam3d_objects.arrays import AnyArray
from sam3d_objects.report.results import Results, Row
from sam3d_objects.report.systems import kind, title
from sam3d_objects.report.verdict import best_baseline

TRUE_COLOUR = "#1b9e77"
PREDICTED_COLOUR = "#d95f02"  # these two are told apart by colour-blind readers (ColorBrewer Dark2)
GREY = "#7f8894"  # at least 3:1 on the light and on the dark page
_DIRECT_COLOUR = "#c25fa0"
_COLOURS = {"model": "#4c86b8", "variant": "#b58a2c", "baseline": "#8a7fc4", "ceiling": GREY}

_ROOM = 0.04
LEGEND = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}

Trace = dict[str, Any]


@dataclass(frozen=True)
class Chart:
    """A figure.

    Args:
        heading: above it.
        alt: what it shows, for those who do not see it.
        caption: below it.
        data: traces, as Plotly reads them.
        layout: the same for axes and legend.
        height_px: on the page.
    """

    heading: str
    alt: str
    caption: str
    data: Sequence[Trace]
    layout: Mapping[str, Any] = field(default_factory=dict)
    height_px: int = 320


def typed(values: AnyArray) -> dict[str, str]:
    """An array (N,) of float32, int32, uint16 ... as Plotly's base64 form, which is a third of its text."""
    array = np.ascontiguousarray(values)
    code = array.dtype.newbyteorder("<").str[1:]
    return {"dtype": code, "bdata": base64.b64encode(array.astype(f"<{code}").tobytes()).decode("ascii")}


def colour(results: Results, system: str) -> str:
    """A system's colour: the reference and the direct network have their own, the others go by kind."""
    if system == results.reference:
        return PREDICTED_COLOUR
    return _DIRECT_COLOUR if system == "direct" else _COLOURS[kind(system)]


def main_systems(results: Results) -> list[str]:
    """The systems that a verdict needs: the reference, the base model, the best baseline and the direct network."""
    wanted = (results.reference, "base", best_baseline(results), "direct")
    return [name for name in dict.fromkeys(wanted) if name in results.systems]


def metric_axis(results: Results, metric: str) -> dict[str, Any]:
    """An axis of one metric: overlaps from 0 to 1 with room for what lies on an end, the others from 0."""
    facts = results.summary["metrics"][metric]
    limits = {"range": padded(1.0)} if facts["kind"] == "overlap" else {"rangemode": "tozero"}
    return {"title": {"text": facts["title"]}, "fixedrange": True, **limits}


def padded(top: float) -> list[float]:
    """A range from 0 to `top` with room for a marker on either end."""
    return [round(-_ROOM * top, 4), round((1 + _ROOM) * top, 4)]


def distribution_chart(results: Results, attribute: str, metric: str = "dice") -> Chart:
    """Every case of one metric with quartiles, grouped by a column of the rows (`plane`, `organ`, `slice_kind`)."""
    name, facts = attribute.replace("_", " "), results.summary["metrics"][metric]
    data, words = [], []
    for system in main_systems(results):
        rows = results.of_system(system)
        groups = [escape(str(getattr(row, attribute))) for row in rows]
        data.append(
            {
                "type": "box",
                "name": title(system),
                "x": groups,
                "y": [row.scores[metric] for row in rows],
                "text": [escape(row.title) for row in rows],
                "boxpoints": "all",
                "jitter": 0.5,
                "pointpos": 0,
                "marker": {"color": colour(results, system), "size": 4, "opacity": 0.6},
                "line": {"width": 1.5},
                "hovertemplate": f"%{{text}}: %{{y:.3f}}<extra>{title(system)}</extra>",
            }
        )
        medians = [f"{group} {_median(rows, attribute, group, metric):.2f}" for group in dict.fromkeys(groups)]
        words.append(f"{title(system)}: {', '.join(medians)}")
    layout = {
        "boxmode": "group",
        "boxgap": 0.25,
        "legend": LEGEND,
        "xaxis": {"fixedrange": True, "type": "category"},
        "yaxis": metric_axis(results, metric),
    }
    return Chart(
        f"{facts['title']} by {name}",
        f"Median {facts['title']} by {name}. {'; '.join(words)}.",
        "Every point is a slice; a box holds the middle half. Click a name to hide or show it.",
        data,
        layout,
        400,
    )


def _median(rows: Sequence[Row], attribute: str, group: str, metric: str) -> float:
    return float(np.median([row.scores[metric] for row in rows if escape(str(getattr(row, attribute))) == group]))
