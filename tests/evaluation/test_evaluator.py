"""Every case is a row, whatever a predictor does; a killed evaluation goes on; equal seeds give equal rows."""

from pathlib import Path

import numpy as np
import pytest

from sam3d_objects.arrays import FloatArray
from sam3d_objects.evaluation import METRICS, Case, Predictor, Row, System, evaluate, read_rows
from sam3d_objects.evaluation.artefacts import file_name, grey, truth_name
from sam3d_objects.evaluation.calibration import LEVELS
from sam3d_objects.evaluation.ceilings import CEILINGS
from sam3d_objects.evaluation.predictor import Stated
from sam3d_objects.evaluation.stated import stated_calibration
from sam3d_objects.files import read_json
from sam3d_objects.mesh import Mesh
from sam3d_objects.process_memory import _now_and_peak
from sam3d_objects.volume import SliceInput
from tests.evaluation.solids import ball_case, ball_mesh, ball_truth, killed_after

DIAGONAL_MM = ball_truth().diagonal_mm
BALL = ball_mesh(9.0, points=24)


def good(slice: SliceInput, seed: int) -> Mesh:
    return BALL


def fail_with(error: BaseException) -> Predictor:
    def predict(slice: SliceInput, seed: int) -> Mesh:
        raise error

    return predict


def returns(mesh: object) -> Predictor:
    def predict(slice: SliceInput, seed: int) -> Mesh:
        return mesh  # type: ignore[return-value]  # what a foreign predictor may return

    return predict


def not_a_number(slice: SliceInput, seed: int) -> Mesh:
    return Mesh(np.where(BALL.vertices > 8, np.nan, BALL.vertices), BALL.faces)


@pytest.mark.parametrize(
    ("predictor", "reason"),
    [
        (fail_with(MemoryError("out of\nmemory")), "MemoryError: out of memory"),
        (fail_with(RuntimeError("CUDA")), "RuntimeError: CUDA"),
        (returns(Mesh(np.zeros((0, 3)), np.zeros((0, 3), dtype=int))), "ValueError: the predicted mesh has no faces"),
        (returns(None), "TypeError: a predictor must return a Mesh in patient mm, got NoneType"),
        (returns(BALL.flipped()), "ValueError: the predicted mesh is inside out"),
        (returns(Mesh(BALL.vertices, BALL.faces[:-1])), "ValueError: the predicted mesh is open"),
        (not_a_number, "ValueError: mesh vertices: expected finite numbers"),
    ],
)
def test_a_failure_is_a_row_with_the_worst_scores(tmp_path: Path, predictor: Predictor, reason: str) -> None:
    (row,) = evaluate([ball_case("c")], {"bad": predictor}, tmp_path)
    assert row.failed and row.reason.startswith(reason)
    volume_ml = ball_truth().volume_ml
    assert row.scores == {name: round(metric.worst(DIAGONAL_MM, volume_ml), 6) for name, metric in METRICS.items()}
    with np.load(tmp_path / "artefacts" / file_name(row), allow_pickle=False) as artefact:
        assert "Traceback" in str(artefact["traceback"])
        assert not artefact["view0_prediction"].any() and artefact["view0_truth"].any()


def test_no_success_is_worse_than_a_failure(tmp_path: Path) -> None:
    far = ball_mesh(40.0, (900.0, 0.0, 0.0), points=24)
    (row,) = evaluate([ball_case("c")], {"far": returns(far)}, tmp_path)
    assert not row.failed and "shares no voxel with the organ" in row.reason
    assert row.scores["hd95_mm"] == row.scores["chamfer_mm"] == round(DIAGONAL_MM, 6)
    assert row.scores["volume_error_percent"] == 100.0


def test_rows_are_in_the_order_of_cases_and_systems_and_on_disk(tmp_path: Path) -> None:
    cases = [ball_case("c1"), ball_case("c2", plane="coronal")]
    lines: list[str] = []
    systems = {"a": good, "b": fail_with(ValueError("no"))}
    rows = evaluate(cases, systems, tmp_path, seed=7, progress=lambda done, total, line: lines.append(line))
    assert [(row.case, row.system, row.failed) for row in rows] == [
        ("c1", "a", False),
        ("c1", "b", True),
        ("c2", "a", False),
        ("c2", "b", True),
    ]
    assert {row.seed for row in rows} == {7}
    assert read_rows(tmp_path / "rows.csv") == rows
    assert not (tmp_path / "rows.csv.partial").exists()
    assert len(lines) == 4 and lines[-1].startswith("4 of 4 ") and lines[-1].endswith("0:00 left")
    index = read_json(tmp_path / "artefacts" / "index.json")
    assert [entry["system"] for entry in index] == ["a", "b", "a", "b"]


def test_what_goes_wrong_at_the_end_costs_no_prediction(tmp_path: Path) -> None:
    asked = []

    def counted(slice: SliceInput, seed: int) -> Mesh:
        asked.append(seed)
        return good(slice, seed)

    def refuse(rows: list[Row]) -> None:
        raise ValueError(f"{len(rows)} rows do not add up")

    with pytest.raises(ValueError, match="1 rows do not add up"):
        evaluate([ball_case("c")], {"a": counted}, tmp_path, conclude=refuse)
    told: list[Row] = []
    rows = evaluate([ball_case("c")], {"a": counted}, tmp_path, conclude=told.extend)
    assert len(asked) == 1 and told == rows
    assert not (tmp_path / "rows.csv.partial").exists()


def test_an_artefact_holds_the_mesh_and_the_cuts(tmp_path: Path) -> None:
    (row,) = evaluate([ball_case("a case/1")], {"a": good}, tmp_path)
    with np.load(tmp_path / "artefacts" / file_name(row), allow_pickle=False) as artefact:
        assert artefact["vertices"] == pytest.approx(BALL.vertices, abs=1e-4)
        assert (artefact["faces"] == BALL.faces).all()
        assert artefact["views"].tolist() == ["axial", "coronal", "sagittal"]
        for view in range(3):
            truth, predicted = artefact[f"view{view}_truth"], artefact[f"view{view}_prediction"]
            assert truth.sum() == pytest.approx(np.pi * 10**2, rel=0.05)
            assert predicted.sum() == pytest.approx(np.pi * 9**2, rel=0.05)
            assert (truth & predicted).sum() == predicted.sum()


def test_the_truth_lies_beside_the_artefacts(tmp_path: Path) -> None:
    evaluate([ball_case("c1"), ball_case("c1", plane="coronal")], {"a": good, "b": good}, tmp_path)
    index = read_json(tmp_path / "artefacts" / "index.json")
    assert len(index) == 4 and len({entry["truth"] for entry in index}) == 1
    with np.load(tmp_path / "artefacts" / index[0]["truth"], allow_pickle=False) as truth:
        assert truth["vertices"] == pytest.approx(ball_truth().mesh.vertices, abs=1e-4)
        assert (truth["faces"] == ball_truth().mesh.faces).all()


def test_another_evaluation_in_the_same_folder_has_its_own_truth(tmp_path: Path) -> None:
    evaluate([ball_case("c", radius_mm=7.0)], {"a": good}, tmp_path, identity="other data")
    (row,) = evaluate([ball_case("c", radius_mm=10.0)], {"a": good}, tmp_path)
    with np.load(tmp_path / "artefacts" / truth_name(row), allow_pickle=False) as truth:
        assert np.ptp(truth["vertices"], axis=0) == pytest.approx([20.0] * 3, abs=0.1)


def test_a_row_says_where_its_slice_lies_and_what_memory_it_took(tmp_path: Path) -> None:
    expected_mib = []

    def large(slice: SliceInput, seed: int) -> Mesh:
        # Past whatever the process held before: some systems remember that.
        held, peak = _now_and_peak()
        assert np.ones((peak - held) // 8 + 2**23).min() == 1  # 64 MiB more
        expected_mib.append(peak / 2**20 + 64)
        return BALL

    first, second = evaluate([ball_case("c")], {"small": good, "large": large}, tmp_path)
    # The slice lies half a voxel above the middle of a ball of 10 mm radius.
    assert first.slice_position == pytest.approx(0.5 + 0.5 / 20, abs=0.002)
    assert second.peak_mib is not None and second.peak_mib == pytest.approx(expected_mib[0], abs=8)
    assert first.peak_mib is None or second.peak_mib - first.peak_mib == pytest.approx(64, abs=8)


def test_a_ceiling_is_told_the_truth(tmp_path: Path) -> None:
    systems: dict[str, System] = {"ceiling_mesh": CEILINGS["ceiling_mesh"], "a": good}
    ceiling, method = evaluate([ball_case("c")], systems, tmp_path)
    assert ceiling.scores["dice"] > 0.99 > method.scores["dice"]


def test_a_stated_spread_is_kept_and_judged(tmp_path: Path) -> None:
    """The prediction is 1 mm inside the truth everywhere: a spread of 1.1 mm holds it at 68 % and not at 60 %."""

    def states(spread_mm: float | None) -> Predictor:
        def spread(part: Mesh) -> FloatArray | None:
            assert len(part.faces) <= 1000 < len(BALL.faces)
            return None if spread_mm is None else np.full(len(part.vertices), spread_mm)

        return lambda slice, seed: Stated(BALL, spread)

    systems = {"unsure": states(1.1), "none": states(None), "plain": good}
    unsure, none, plain = evaluate([ball_case("c")], systems, tmp_path)
    assert unsure.scores == none.scores == plain.scores
    found = stated_calibration(tmp_path, [unsure, none, plain])
    assert found is not None and found.n == 1
    assert found.spread_mm == pytest.approx(1.1) and found.distance_mm == pytest.approx(1.0, abs=0.02)
    assert found.within[LEVELS.index(0.6)] == 0.0 and found.within[LEVELS.index(0.7)] == pytest.approx(1.0)
    assert stated_calibration(tmp_path, [none, plain]) is None


def test_predictors_may_differ_by_organ(tmp_path: Path) -> None:
    (row,) = evaluate([ball_case("c")], {"per_organ": {"ball": good, "other": returns(None)}}, tmp_path)
    assert not row.failed
    with pytest.raises(ValueError, match="no predictor for ball"):
        evaluate([ball_case("c")], {"per_organ": {"other": good}}, tmp_path)


class TestResume:
    def run(self, out: Path, predictor: Predictor, identity: str = "") -> list[Row]:
        cases = [ball_case("c1"), ball_case("c2")]
        return evaluate(cases, {"a": predictor, "b": good}, out, artefacts=False, identity=identity)

    def test_a_killed_evaluation_does_not_predict_twice(self, tmp_path: Path) -> None:
        with pytest.raises(KeyboardInterrupt):
            self.run(tmp_path / "killed", killed_after(1, good))
        assert not (tmp_path / "killed" / "rows.csv").exists()
        resumed = self.run(tmp_path / "killed", killed_after(1, good))
        whole = self.run(tmp_path / "whole", good)
        assert [(row.key, row.scores) for row in resumed] == [(row.key, row.scores) for row in whole]

    def test_rows_of_another_adapter_are_not_kept(self, tmp_path: Path) -> None:
        with pytest.raises(KeyboardInterrupt):
            self.run(tmp_path, killed_after(1, good), identity="adapter one")
        with pytest.raises(KeyboardInterrupt):
            self.run(tmp_path, killed_after(1, good), identity="adapter two")
        assert len((tmp_path / "rows.csv.partial").read_text().splitlines()) == 2 + 2

    def test_a_finished_evaluation_is_done_again(self, tmp_path: Path) -> None:
        self.run(tmp_path, good)
        assert self.run(tmp_path, fail_with(ValueError("no")))[0].failed


def test_what_cannot_be_evaluated(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no cases"):
        evaluate([], {"a": good}, tmp_path)
    with pytest.raises(ValueError, match="no systems"):
        evaluate([ball_case("c")], {}, tmp_path)
    with pytest.raises(ValueError, match="twice"):
        evaluate([ball_case("c"), ball_case("c")], {"a": good}, tmp_path)


def test_a_case_that_cannot_be_read_is_no_failure_of_a_system(tmp_path: Path) -> None:
    def load() -> None:
        raise ValueError("organ_0.npz is damaged")

    broken = Case("c", "c", "ball", "axial", "largest", 3, load)  # type: ignore[arg-type]  # it never returns
    with pytest.raises(ValueError, match="damaged"):
        evaluate([broken], {"a": good}, tmp_path)


def test_grey_values_for_display() -> None:
    ramp = np.linspace(-1000, 3000, 101)[None]
    shown = grey(ramp)
    assert shown.dtype == np.uint8 and shown[0, 0] == 0 and shown[0, -1] == 255 and shown[0, 50] == 128
    assert not grey(np.full((3, 3), 7.0)).any()
    assert not grey(ramp, ramp > 5000 - 2001)[ramp <= 2999].any()
