"""Facts: the reference's own figures as tiles, in words that need no dictionary."""

from collections.abc import Mapping
from typing import Any

from sam3d_objects.report.html import tag
from sam3d_objects.report.results import Results
from sam3d_objects.report.systems import title
from sam3d_objects.report.tables import digits

_FACTS = {
    "dice": ("overlap (Dice)", "1 is perfect, 0 is none"),
    "assd_mm": ("mean surface error", "how far the surfaces lie apart"),
    "hd95_mm": ("95 % surface error (HD95)", "95 % of the surface lies nearer than this"),
    "volume_error_percent": ("volume error", "mean size of the error; too large or too small"),
}
_UNITS = {"percent": " %", "distance": " mm", "volume": " ml", "overlap": ""}


def facts(results: Results) -> str:
    """A tile a metric, then how many cases have no usable mesh, beside the worst of those that have one."""
    own, metrics = results.summary["systems"][results.reference], results.summary["metrics"]
    tiles = []
    for metric, (name, meaning) in _FACTS.items():
        if metric in metrics:
            tiles.append(_tile(name, _figure(own[metric], metrics[metric]), meaning))
    count, mark = f"{own['failures']} of {own['n']}", "worse" if own["failures"] else ""
    tiles.append(_tile("no usable mesh", count, f"no surface, or one that cannot be scored{_worst(results)}", mark))
    return f'<dl class="facts" aria-label="Figures of the {title(results.reference)}">{"".join(tiles)}</dl>'


def _worst(results: Results) -> str:
    rows = results.of_system(results.reference)
    scores = [row.scores["dice"] for row in rows if not row.failed]
    if not scores:
        return ""
    return f"; worst {'case' if len(scores) == len(rows) else 'of the others'}: Dice {min(scores):.2f}"


def _figure(score: Mapping[str, Any], metric: Mapping[str, Any]) -> str:
    shown = {"percent": 0, "distance": 1, "volume": 1, "overlap": 2}[str(metric["kind"])]
    return f"{score['mean']:.{min(shown, digits(metric))}f}{_UNITS[str(metric['kind'])]}"


def _tile(name: str, value: str, meaning: str, mark: str = "") -> str:
    return f'<div class="{mark}">' + f"{tag('dt', name)}<dd>{tag('b', value)}{tag('small', meaning)}</dd></div>"
