"""The slices' places: the organ's extent where the rows say it, slices from the largest one where not."""

from dataclasses import replace
from pathlib import Path

from sam3d_objects.report import Results
from sam3d_objects.report.position import position_chart
from sam3d_objects.report.results import Row


def results(positions: list[float | None]) -> Results:
    facts = {"title": "Dice", "kind": "overlap", "higher_is_better": True}
    rows = [
        Row("a", "a", "ball", "axial", kind, index, "adapted", False, "", 1.0, {"dice": dice}, position)
        for (kind, index, dice), position in zip(
            [("largest", 10, 0.9), ("random", 7, 0.6), ("random", 14, 0.5)], positions, strict=True
        )
    ]
    return Results(Path(), tuple(rows), {"reference": "adapted", "metrics": {"dice": facts}}, {})


def test_without_positions_slices_are_counted_from_the_largest() -> None:
    chart = position_chart(results([None, None, None]))
    assert chart.data[0]["x"] == [0.0, -3.0, 4.0]
    assert "slices away from the largest cut" in chart.alt
    assert "mean 0.75 for the half of the slices nearest to the largest cut, 0.50 for the others" in chart.alt


def test_positions_are_taken_as_they_are() -> None:
    chart = position_chart(results([0.5, 0.1, 0.8]))
    assert chart.data[0]["x"] == [0.5, 0.1, 0.8]
    assert "0.70 for the half of the slices nearest to the organ's middle, 0.60 for the others" in chart.alt


def test_names_from_outside_are_not_read_as_html() -> None:
    found = results([None] * 3)
    rows = tuple(replace(row, case="<b>a & b") for row in found.rows)
    chart = position_chart(replace(found, rows=rows))
    assert all(words.startswith("&lt;b&gt;a &amp; b, ball") for words in chart.data[0]["text"])
