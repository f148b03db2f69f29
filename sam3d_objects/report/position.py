"""Position: whether a score depends on where in the organ the slice was taken."""

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from sam3d_objects.report.charts import GREY, LEGEND, Chart, Trace, metric_axis
from sam3d_objects.report.results import Results, Row
from sam3d_objects.report.systems import title

_PLANES = {"axial": ("#4c86b8", "circle"), "coronal": ("#c25fa0", "square"), "sagittal": ("#b58a2c", "diamond")}


def position_chart(results: Results, metric: str = "dice") -> Chart:
    """One metric of the reference against its slices' places.

    A place is where the slice lies in the organ's extent, from 0 to 1, where the rows say so (`slice_position`), and
    otherwise how many slices it lies away from the largest of its case, organ and plane.
    """
    rows = results.of_system(results.reference)
    facts, name = results.summary["metrics"][metric], title(results.reference)
    known = all(row.slice_position is not None for row in rows)
    places = [float(row.slice_position or 0) for row in rows] if known else _offsets(rows)
    middle, centre = (0.5, "the organ's middle") if known else (0.0, "the largest cut")
    axis = "place in the organ, from end to end" if known else "slices away from the largest cut"
    horizontal: dict[str, Any] = {"title": {"text": axis}, "fixedrange": True, "zeroline": False}
    if known:
        horizontal |= {"range": [0, 1], "tickformat": ".0%"}
    return Chart(
        f"{facts['title']} against slice position",
        f"{facts['title']} of the {name} against {axis}: {_halves(rows, places, metric, middle, centre)}.",
        f"Every point is a slice that was given to the {name}.",
        [_points(rows, places, metric, plane) for plane in dict.fromkeys(row.plane for row in rows)],
        {"legend": LEGEND, "xaxis": horizontal, "yaxis": metric_axis(results, metric)},
        400,
    )


def _points(rows: Sequence[Row], places: Sequence[float], metric: str, plane: str) -> Trace:
    own = [number for number, row in enumerate(rows) if row.plane == plane]
    shade, symbol = _PLANES.get(plane, (GREY, "cross"))
    return {
        "type": "scatter",
        "mode": "markers",
        "name": plane,
        "x": [round(places[number], 4) for number in own],
        "y": [rows[number].scores[metric] for number in own],
        "text": [escape(rows[number].title) for number in own],
        "marker": {"color": shade, "symbol": symbol, "size": 8, "opacity": 0.8},
        "hovertemplate": "%{text}: %{y:.3f}<extra></extra>",
    }


def _halves(rows: Sequence[Row], places: Sequence[float], metric: str, middle: float, centre: str) -> str:
    """The mean of the half of the slices nearest to the middle, and of the others, in words."""
    away = np.abs(np.array(places) - middle)
    scores = np.array([row.scores[metric] for row in rows])
    near = away <= np.median(away)
    words = f"mean {scores[near].mean():.2f} for the half of the slices nearest to {centre}"
    return words if near.all() else f"{words}, {scores[~near].mean():.2f} for the others"


def _offsets(rows: Sequence[Row]) -> list[float]:
    largest = {(row.case, row.organ, row.plane): row.slice_index for row in rows if row.slice_kind == "largest"}
    return [float(row.slice_index - largest.get((row.case, row.organ, row.plane), row.slice_index)) for row in rows]
