"""What is judged is checked, and how far it is counts only what was asked for."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sam3d_objects.evaluation import Progress, Row, evaluate
from sam3d_objects.evaluation.jobs import Clock, check_judged, missing_jobs
from sam3d_objects.evaluation.protocols import run_protocol
from sam3d_objects.mesh import Mesh
from sam3d_objects.volume import SliceInput
from tests.evaluation.solids import ball_case, ball_mesh

BALL = ball_mesh(9.0, points=16)
CASES = [ball_case("c1"), ball_case("c2"), ball_case("c3")]


def ball(slice: SliceInput, seed: int) -> Mesh:
    return BALL


def interrupted_after(rows: int) -> Progress:
    def told(done: int, total: int, line: str) -> None:
        if done == rows:
            raise KeyboardInterrupt

    return told


@pytest.fixture
def few_points(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sam3d_objects.evaluation.protocols.point_metrics.POINTS", 200)
    monkeypatch.setattr("sam3d_objects.evaluation.protocols.point_metrics.EMD_POINTS", 20)


@pytest.mark.usefixtures("few_points")
@pytest.mark.parametrize("judge", [evaluate, run_protocol])
def test_rows_of_systems_that_are_no_longer_asked_for_do_not_count(
    tmp_path: Path, judge: Callable[..., list[Row]]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        judge(CASES, {"a": ball, "b": ball}, tmp_path, progress=interrupted_after(3))
    told: list[tuple[int, int]] = []
    judge(CASES, {"b": ball}, tmp_path, progress=lambda done, total, line: told.append((done, total)))
    assert told == [(2, 3), (3, 3)]  # a and b of c1 and a of c2 were there: one of the three that b has


def test_what_is_missing() -> None:
    known = {(*case.key, "a", 0) for case in CASES[:2]} | {(*CASES[1].key, "b", 0)}
    assert missing_jobs(CASES, {"a": ball, "b": ball}, 0, known) == [(0, ("b",)), (2, ("a", "b"))]
    assert missing_jobs(CASES, {"a": ball}, 1, known) == [(0, ("a",)), (1, ("a",)), (2, ("a",))]


def test_the_time_left_is_that_of_the_pace_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([100.0, 120.0, 130.0])
    monkeypatch.setattr("time.monotonic", lambda: next(now))
    lines: list[str] = []
    clock = Clock(10, 6, lambda done, total, line: lines.append(line))  # 4 of 10 were there
    clock.tick()
    clock.tick()
    assert lines == ["5 of 10 predictions scored, 1:40 left", "6 of 10 predictions scored, 1:00 left"]


def test_neither_kind_of_evaluation_writes_over_the_other(tmp_path: Path, few_points: None) -> None:
    run_protocol(CASES[:1], {"a": ball}, tmp_path / "points")
    evaluate(CASES[:1], {"a": ball}, tmp_path / "mm", artefacts=False)
    with pytest.raises(ValueError, match="another kind of evaluation; take another folder"):
        evaluate(CASES[:1], {"a": ball}, tmp_path / "points")
    with pytest.raises(ValueError, match="another kind of evaluation; take another folder"):
        run_protocol(CASES[:1], {"a": ball}, tmp_path / "mm")
    evaluate(CASES[:1], {"a": ball}, tmp_path / "mm", artefacts=False)  # its own kind is


def test_a_case_given_twice_is_refused_by_every_protocol(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="given twice"):
        run_protocol([CASES[0], CASES[0]], {"a": ball}, tmp_path)
    with pytest.raises(ValueError, match="no systems"):
        check_judged(CASES, {}, 0)
