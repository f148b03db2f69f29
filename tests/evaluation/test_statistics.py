"""The bootstrap draws patients, covers the mean as often as it says, and pairs cases."""

from dataclasses import replace

import numpy as np
import pytest

from sam3d_objects.evaluation import METRICS, Row, bootstrap_interval, paired_difference, summarise


def row(patient: str, dice: float, system: str = "a", case: str | None = None, failed: bool = False) -> Row:
    scores = {**dict.fromkeys(METRICS, 0.0), "dice": dice}
    return Row(case or patient, patient, "organ", "axial", "largest", 1, system, 0, failed, "", 0.0, scores)


def test_mean_median_quartiles_count_failures() -> None:
    rows = [row(f"p{n}", dice, failed=dice == 0) for n, dice in enumerate((0.0, 0.5, 0.7, 0.8, 1.0))]
    summary = summarise(rows, "dice")
    assert summary.mean == pytest.approx(0.6)
    assert (summary.q1, summary.median, summary.q3) == pytest.approx((0.5, 0.7, 0.8))
    assert summary.ci_low is not None and summary.ci_high is not None
    assert 0 <= summary.ci_low < 0.6 < summary.ci_high <= 1


def test_no_rows_have_no_mean() -> None:
    with pytest.raises(ValueError, match="no rows"):
        summarise([], "dice")


def test_patients_are_drawn_not_rows() -> None:
    # A hundred equal slices of two people say no more than two numbers.
    values = np.repeat([0.2, 0.8], 100)
    people = ["p"] * 100 + ["q"] * 100
    assert bootstrap_interval(values, people) == pytest.approx((0.2, 0.8))
    rows = [f"r{n}" for n in range(200)]
    low, high = bootstrap_interval(values, rows)
    assert low is not None and high is not None and high - low < 0.2


def test_one_patient_has_no_interval() -> None:
    assert bootstrap_interval(np.array([0.1, 0.9]), ["p", "p"]) == (None, None)


def test_a_patient_with_more_slices_weighs_more() -> None:
    values = np.array([1.0, 1.0, 1.0, 0.0])
    assert bootstrap_interval(values, ["p", "p", "p", "q"]) == (0.0, 1.0)
    assert summarise([row("p", 1.0), row("p", 1.0, case="2"), row("q", 0.4)], "dice").mean == pytest.approx(0.8)


def test_the_seed_fixes_the_interval() -> None:
    values, people = np.random.default_rng(0).random(40), [f"p{n // 2}" for n in range(40)]
    assert bootstrap_interval(values, people, 3) == bootstrap_interval(values, people, 3)
    assert bootstrap_interval(values, people, 3) != bootstrap_interval(values, people, 4)
    with pytest.raises(ValueError, match="patient for each"):
        bootstrap_interval(values, people[:-1])


def test_the_interval_covers_the_mean_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    people = [f"p{n // 3}" for n in range(90)]
    covered = 0
    for trial in range(200):
        values = np.repeat(generator.normal(0.7, 0.1, 30), 3) + generator.normal(0, 0.05, 90)
        low, high = bootstrap_interval(values, people, trial, replicates=400)
        assert low is not None and high is not None
        covered += low <= 0.7 <= high
    assert 0.88 <= covered / 200 <= 0.98  # the percentile bootstrap is a little narrow with 30 patients


def test_a_paired_difference_ignores_how_hard_the_cases_are() -> None:
    hard = np.linspace(0.1, 0.8, 12)
    rows = [row(f"p{n}", dice + 0.05, "a") for n, dice in enumerate(hard)]
    rows += [row(f"p{n}", dice, "b") for n, dice in enumerate(hard)][::-1]
    difference = paired_difference(rows, "a", "b", "dice")
    assert difference.mean == pytest.approx(0.05)
    assert (difference.ci_low, difference.ci_high) == pytest.approx((0.05, 0.05))
    assert (difference.n, difference.patients) == (12, 12)


def test_only_the_same_cases_are_compared() -> None:
    rows = [row("p", 0.5, "a"), row("q", 0.5, "a"), row("p", 0.4, "b")]
    with pytest.raises(ValueError, match="not judged on the same cases: 2 and 1 rows, 1 in common"):
        paired_difference(rows, "a", "b", "dice")
    with pytest.raises(ValueError, match="not judged"):
        paired_difference([replace(rows[0], plane="coronal"), rows[2]], "a", "b", "dice")
