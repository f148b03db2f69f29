"""Pooled: folds as one evaluation, with intervals over people."""

from pathlib import Path

import numpy as np
import pytest

from sam3d_objects.evaluation import METRICS, Row, write_rows
from sam3d_objects.evaluation.pooled import (
    Estimate,
    differences_table,
    median_interval,
    pooled_differences,
    pooled_mean,
    pooled_median,
    pooled_slices,
    pooled_systems,
    rows_as,
    slices_table,
    systems_table,
)


def row(patient: str, dice: float, system: str = "a", plane: str = "axial") -> Row:
    scores = dict.fromkeys(METRICS, 2.0) | {"dice": dice}
    return Row(patient, patient, "organ", plane, "largest", 3, system, 0, False, "", 0.1, scores)


def test_rows_are_taken_under_another_name(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.csv", [row("p", 0.5, "adapted"), row("p", 0.1, "base")])
    assert [(one.system, one.scores["dice"]) for one in rows_as(tmp_path / "rows.csv", {"adapted": "r4"})] == [
        ("r4", 0.5)
    ]
    with pytest.raises(ValueError, match="no rows of full"):
        rows_as(tmp_path / "rows.csv", {"full": "full"})


def test_the_median_of_three_people_by_hand() -> None:
    """Of three people with one row each, 27 draws of three: the median is the lowest value in 7, the middle in 13."""
    low, high = median_interval(np.array([3.0, 1.0, 2.0]), ["c", "a", "b"])
    assert (low, high) == (1.0, 3.0)
    draws = [median_interval(np.array([3.0, 1.0, 2.0]), ["c", "a", "b"], seed, replicates=1)[0] for seed in range(300)]
    shares = [draws.count(value) / 300 for value in (1.0, 2.0, 3.0)]
    assert shares == pytest.approx([7 / 27, 13 / 27, 7 / 27], abs=0.09)


def test_a_person_is_drawn_whole() -> None:
    """Nine rows of one person and one of another: the median is the first's, or the second's if drawn twice."""
    low, high = median_interval(np.array([1.0] * 9 + [5.0]), ["a"] * 9 + ["b"])
    assert (low, high) == (1.0, 5.0)
    assert median_interval(np.array([1.0, 2.0]), ["a", "a"]) == (None, None)


def test_means_medians_and_their_texts() -> None:
    rows = [row("p", 0.2), row("p", 0.4), row("q", 0.9)]
    assert pooled_mean(rows, "dice").value == pytest.approx(0.5)
    assert pooled_median(rows, "dice").value == pytest.approx(0.4)
    assert pooled_median(rows[:2], "dice").text(2) == "0.30"
    assert Estimate(0.1234, -0.05, 0.3).text(2, sign=True) == "+0.12 (-0.05 to +0.30)"
    with pytest.raises(ValueError, match="no rows"):
        pooled_mean([], "dice")


def test_systems_and_differences() -> None:
    rows = {
        "a": [row("p", 0.5), row("q", 0.7)],
        "b": [row("p", 0.4, "b"), row("q", 0.5, "b")],
        "elsewhere": [row("p", 0.4, "elsewhere", "coronal")],
    }
    systems = pooled_systems(rows)
    assert (systems["a"]["n"], systems["a"]["patients"], systems["a"]["failures"]) == (2, 2, 0)
    differences = pooled_differences(rows, [("a", "b"), ("a", "elsewhere")])
    assert list(differences) == ["a - b"] and differences["a - b"]["dice"]["value"] == pytest.approx(0.15)
    table = systems_table(systems, {"MB": {"a": "1.5"}})
    assert table.splitlines()[0] == "| system | cases | failed | Dice | HD95 mm | ASSD mm | MB |"
    assert table.splitlines()[2].endswith("| 1.5 |") and table.splitlines()[3].endswith("|  |")
    assert differences_table(differences).splitlines()[2].startswith("| a - b | +0.150 (+0.100 to +0.200) | +0.00")


def test_each_kind_of_slice_has_its_mean() -> None:
    rows = {"a": [row("p", 0.2), row("q", 0.4), row("p", 0.9, plane="coronal")], "b": [row("p", 0.5, "b")]}
    found = pooled_slices(rows)
    assert found["a"] == {"axial largest": pytest.approx(0.3), "coronal largest": 0.9}
    assert slices_table(found).splitlines()[2:] == ["| a | 0.300 | 0.900 |", "| b | 0.500 |  |"]
