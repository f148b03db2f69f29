"""A run of the protocol: a row a case and system with its ceiling, failures counted, killed runs resumed."""

import csv
from pathlib import Path

import numpy as np
import pytest

from sam3d_objects.evaluation import Case, Predictor, Row, SummaryOptions, System
from sam3d_objects.evaluation.ceilings import CEILINGS
from sam3d_objects.evaluation.protocols import POINT_METRICS, point_scores, run_protocol
from sam3d_objects.files import read_json
from sam3d_objects.mesh import Mesh
from sam3d_objects.volume import SliceInput
from tests.evaluation.solids import ball_case, ball_mesh, box_mesh, killed_after

BALL, BOX = ball_mesh(9.0, (3.0, 0, 0), points=24), box_mesh((0, 0, 0), (4, 7, 10))
MODULE = "sam3d_objects.evaluation.protocols.point_metrics"
WORST = {name: round(metric.worst, 6) for name, metric in POINT_METRICS.items()}


@pytest.fixture(autouse=True)
def few_points(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{MODULE}.POINTS", 1000)
    monkeypatch.setattr(f"{MODULE}.EMD_POINTS", 100)


@pytest.fixture
def more_points(few_points: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Enough for overlaps that mean something: with fewer, chance moves a cloud's size by more than a cell."""
    monkeypatch.setattr(f"{MODULE}.POINTS", 4000)


def good(slice: SliceInput, seed: int) -> Mesh:
    return BALL


def boxes(slice: SliceInput, seed: int) -> Mesh:
    return BOX


def returns(mesh: object) -> Predictor:
    def predict(slice: SliceInput, seed: int) -> Mesh:
        return mesh  # type: ignore[return-value]  # what a foreign predictor may return

    return predict


def fails(slice: SliceInput, seed: int) -> Mesh:
    raise RuntimeError("out of\nmemory")


def table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.usefixtures("more_points")
def test_every_row_has_its_scores_beside_the_ceiling_of_its_shape(tmp_path: Path) -> None:
    cases = [ball_case("c1", kind="middle"), ball_case("c2", 8.0, kind="middle")]
    rows = run_protocol(cases, {"adapted": good, "boxes": boxes}, tmp_path, seed=3)
    assert [(row.case, row.system, row.failed, row.seed) for row in rows] == [
        ("c1", "adapted", False, 3),
        ("c1", "boxes", False, 3),
        ("c2", "adapted", False, 3),
        ("c2", "boxes", False, 3),
    ]
    one, box = rows[0].scores, rows[1].scores
    ceilings = {name: one[f"{name}_ceiling"] for name in POINT_METRICS}
    assert ceilings == {name: box[f"{name}_ceiling"] for name in POINT_METRICS}, "it is the shape's, not the system's"
    # A ball, wherever it is and however large, reaches the ceiling of balls; a box does not.
    assert [one[name] for name in POINT_METRICS] == pytest.approx(list(ceilings.values()), rel=0.25, abs=0.02)
    assert all((box[name] < ceilings[name]) == metric.higher_is_better for name, metric in POINT_METRICS.items())
    read = table(tmp_path / "rows.csv")
    assert [float(read[1][name]) for name in box] == list(box.values())
    assert read[0]["failed"] == "false" and read[0]["slice_kind"] == "middle"


@pytest.mark.parametrize(
    ("predictor", "reason"),
    [
        (fails, "RuntimeError: out of memory"),
        (returns(None), "TypeError: a predictor must return a Mesh in patient mm, got NoneType"),
        (returns(Mesh(np.zeros((0, 3)), np.zeros((0, 3), dtype=int))), "ValueError: the predicted mesh has no faces"),
        (returns(Mesh(np.ones((3, 3)), np.array([[0, 1, 2]]))), "ValueError: cannot sample a mesh without area"),
    ],
)
def test_a_failure_is_a_row_with_the_worst_scores(
    tmp_path: Path, predictor: Predictor, reason: str
) -> None:
    (row,) = run_protocol([ball_case("c")], {"bad": predictor}, tmp_path)
    assert row.failed and row.reason.startswith(reason)
    assert {name: row.scores[name] for name in POINT_METRICS} == WORST
    assert row.scores["voxel_dice_ceiling"] > 0
    summary = read_json(tmp_path / "summary.json")
    assert summary["systems"]["bad"]["failures"] == 1 and summary["systems"]["bad"]["f1"]["mean"] == 0
    assert "(failed)" in (tmp_path / "summary.md").read_text()


@pytest.mark.usefixtures("more_points")
def test_a_single_triangle_has_no_good_score(tmp_path: Path) -> None:
    triangle = Mesh(np.array([[0.0, 0, 0], [5, 0, 0], [0, 5, 0]]), np.array([[0, 1, 2]]))
    (row,) = run_protocol([ball_case("c")], {"triangle": returns(triangle)}, tmp_path)
    assert row.scores["chamfer"] > 2 * row.scores["chamfer_ceiling"]
    assert row.scores["voxel_dice"] < row.scores["voxel_dice_ceiling"] / 2


def test_a_perfect_prediction_does_not_pass_the_ceiling_by_equal_draws(tmp_path: Path) -> None:
    (row,) = run_protocol([ball_case("c")], {"ceiling_mesh": CEILINGS["ceiling_mesh"]}, tmp_path)
    assert row.scores["chamfer"] == pytest.approx(row.scores["chamfer_ceiling"], rel=0.2)
    assert row.scores["chamfer"] != row.scores["chamfer_ceiling"] and row.scores["chamfer"] > 0.05


def test_the_summary_keeps_ceilings_and_methods_apart(tmp_path: Path) -> None:
    systems: dict[str, System] = {"ceiling_mesh": CEILINGS["ceiling_mesh"], "boxes": boxes, "adapted": good}
    options = SummaryOptions(synthetic=True, notes=("a note",))
    rows = run_protocol([ball_case("c1"), ball_case("c2", 8.0)], systems, tmp_path, options=options)
    summary = read_json(tmp_path / "summary.json")
    assert (summary["protocol"], summary["reference"]) == ("slice3d-2602", "adapted")
    assert summary["knows_the_truth"] == ["ceiling_mesh"]
    assert {(pair["first"], pair["second"]) for pair in summary["paired"]} == {("adapted", "boxes")}
    own = [row.scores["f1"] for row in rows if row.system == "boxes"]
    assert summary["systems"]["boxes"]["f1"]["mean"] == pytest.approx(np.mean(own))
    shapes = [row.scores["emd_ceiling"] for row in rows if row.system == "boxes"]
    assert summary["ceiling"]["emd"]["mean"] == pytest.approx(np.mean(shapes))
    text = (tmp_path / "summary.md").read_text()
    assert "ceiling_mesh (knows the truth)" in text and "SYNTHETIC" in text and "- a note" in text
    # A line a shape: its ceiling, then every system's score.
    assert f"| c2, ball, slice 16 | {rows[3].scores['f1_ceiling']:.3f} | {rows[3].scores['f1']:.3f} |" in text


def test_predictors_may_differ_by_organ(tmp_path: Path) -> None:
    (row,) = run_protocol([ball_case("c")], {"per_organ": {"ball": good, "other": fails}}, tmp_path)
    assert not row.failed
    with pytest.raises(ValueError, match="no predictor for ball"):
        run_protocol([ball_case("c")], {"per_organ": {"other": good}}, tmp_path)


@pytest.mark.parametrize(("cases", "systems"), [([], {"a": good}), ([ball_case("c")], {})])
def test_nothing_to_judge(tmp_path: Path, cases: list[Case], systems: dict[str, System]) -> None:
    with pytest.raises(ValueError, match=r"no (cases|systems) to evaluate"):
        run_protocol(cases, systems, tmp_path)


def test_rows_of_another_evaluation_are_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("case,patient,dice\n")
    with pytest.raises(ValueError, match="another kind of evaluation"):
        run_protocol([ball_case("c")], {"a": good}, tmp_path)
    assert (tmp_path / "rows.csv").read_text() == "case,patient,dice\n"
    for _ in range(2):  # its own are
        run_protocol([ball_case("c")], {"a": good}, tmp_path / "own")


class TestResume:
    def run(self, out: Path, predictor: Predictor, identity: str = "one") -> list[Row]:
        cases = [ball_case("c1"), ball_case("c2", 8.0)]
        return run_protocol(cases, {"a": predictor, "b": boxes}, out, identity=identity)

    def test_a_killed_run_does_not_predict_twice(self, tmp_path: Path) -> None:
        with pytest.raises(KeyboardInterrupt):
            self.run(tmp_path / "killed", killed_after(1, good))
        assert not (tmp_path / "killed" / "rows.csv").exists()
        partial = tmp_path / "killed" / "rows.jsonl.partial"
        partial.write_text(partial.read_text() + '{"case": "c2", "pat')  # a line that the kill cut off
        resumed = self.run(tmp_path / "killed", killed_after(1, good))
        whole = self.run(tmp_path / "whole", good)
        assert [(row.key, row.scores) for row in resumed] == [(row.key, row.scores) for row in whole]
        assert not partial.exists()

    def test_rows_of_another_adapter_are_not_kept(self, tmp_path: Path) -> None:
        with pytest.raises(KeyboardInterrupt):
            self.run(tmp_path, killed_after(1, good))
        with pytest.raises(KeyboardInterrupt):
            self.run(tmp_path, killed_after(0, good), identity="two")
        assert len((tmp_path / "rows.jsonl.partial").read_text().splitlines()) == 1

    def test_a_damaged_line_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(KeyboardInterrupt):
            self.run(tmp_path, killed_after(1, good))
        partial = tmp_path / "rows.jsonl.partial"
        partial.write_text(partial.read_text() + '{"case": "c2"}\n')
        with pytest.raises(ValueError, match=r"rows\.jsonl\.partial holds a line that is not a row"):
            self.run(tmp_path, good)


def test_the_progress_ends_with_nothing_left(tmp_path: Path) -> None:
    lines: list[str] = []
    run_protocol(
        [ball_case("c")], {"a": good, "b": boxes}, tmp_path, progress=lambda done, total, line: lines.append(line)
    )
    assert lines[0].startswith("1 of 2 ") and lines[-1] == "2 of 2 predictions scored, 0:00 left"


def test_workers_give_the_same_rows(tmp_path: Path) -> None:
    cases = [ball_case("c1"), ball_case("c2", 8.0), ball_case("c3", 6.0)]
    systems = {"a": good, "b": fails}
    one, two = (run_protocol(cases, systems, tmp_path / str(workers), workers=workers) for workers in (0, 2))
    assert [(row.key, row.scores, row.reason) for row in two] == [(row.key, row.scores, row.reason) for row in one]


def test_equal_inputs_give_equal_scores() -> None:
    cloud = np.random.default_rng(0).uniform(-1, 1, size=(1000, 3))
    found = [point_scores(cloud, cloud[::-1], np.random.default_rng(1)) for _ in range(2)]
    assert found[0] == found[1]
