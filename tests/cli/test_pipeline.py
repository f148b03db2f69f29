"""The whole way on three phantoms and random weights: every step for real, each done once."""

import csv
from pathlib import Path

import pytest

from sam3d_objects.cli import direct
from sam3d_objects.cli.main import main
from sam3d_objects.cli.pipeline import EVALUATE, PREPARE, TRAIN, chosen_steps
from sam3d_objects.dataset import Manifest, PreparedCase
from sam3d_objects.evaluation import Predictor, fit_baselines
from sam3d_objects.files import read_json

SMALL = [
    *("--phantoms.cases", "3", "--classes", "phantom_bean", "--num_workers", "0", "--epochs", "1", "--batch_size", "9"),
    *("--train.variants", "1", "--train.validation_slices", "2", "--train.validation_samples", "1"),
    *("--train.samples", "1", "--train.steps", "1", "--train.no_fit", "--train.threshold", "0.3"),
    # Random structures are foam, whose detailed surfaces take long; `reconstruct` is tested with both stages.
    *("--evaluate.stages", "structure"),
    *("--train.target_iou_bar", "0", "--evaluate.systems", "base,adapted,merged,extrusion,mean_shape"),
]


@pytest.fixture(scope="module")
def finished(random_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run."""
    out = tmp_path_factory.mktemp("pipeline") / "demo"
    assert main(["pipeline", "--out", str(out), "--base", str(random_base), *SMALL]) == 0
    return out


def test_it_leaves_an_adapter_scores_and_a_report(finished: Path) -> None:
    for name in ("dataset/manifest.json", "training/best/adapter_model.safetensors", "training/best/README.md"):
        assert (finished / name).is_file()
    for name in ("rows.csv", "summary.json", "summary.md", "report.html", "report.md"):
        assert (finished / "evaluation" / name).is_file()


def test_the_scores_are_of_unseen_patients_on_every_plane(finished: Path) -> None:
    manifest = read_json(finished / "dataset" / "manifest.json")
    with open(finished / "evaluation" / "rows.csv", newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert {manifest["split"][row["patient"]] for row in rows} == {"test"}
    assert {row["plane"] for row in rows} == {"axial", "coronal", "sagittal"}
    assert {row["slice_kind"] for row in rows} == {"largest", "random"}
    systems = read_json(finished / "evaluation" / "summary.json")["systems"]
    assert list(systems) == ["base", "adapted", "merged", "extrusion", "mean_shape"]
    assert len({summary["n"] for summary in systems.values()}) == 1
    assert abs(systems["adapted"]["dice"]["mean"] - systems["merged"]["dice"]["mean"]) <= 1e-3


def test_phantoms_are_called_synthetic_wherever_they_are_shown(finished: Path) -> None:
    for name in ("summary.md", "report.html", "report.md"):
        assert "synthetic" in (finished / "evaluation" / name).read_text(encoding="utf-8").lower()


def test_a_second_run_does_nothing_and_shows_the_table(
    finished: Path, random_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()}
    assert main(["pipeline", "--out", str(finished), "--base", str(random_base), *SMALL]) == 0
    text = capsys.readouterr().out
    assert text.count("done already") == 5
    assert "| adapted |" in text
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()} == before


def test_only_what_depends_on_a_changed_option_is_done_again(
    finished: Path, random_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--evaluate.systems", "extrusion,adapted"]
    assert main(["pipeline", "--out", str(finished), "--base", str(random_base), *SMALL, *words]) == 0
    text = capsys.readouterr().out
    assert text.count("done already") == 3
    assert list(read_json(finished / "evaluation" / "summary.json")["systems"]) == ["extrusion", "adapted"]
    assert (finished / "evaluation.old1" / "summary.json").is_file()


def test_the_flags_choose_the_steps() -> None:
    assert chosen_steps(False, False, False, True) == {PREPARE, TRAIN, EVALUATE}
    assert chosen_steps(False, False, False, False) == {TRAIN, EVALUATE}
    assert chosen_steps(True, False, False, True) == {PREPARE}
    assert chosen_steps(False, True, False, False) == {TRAIN}
    assert chosen_steps(False, False, True, True) == {EVALUATE}
    for contradiction in ((True, True, False, True), (False, True, True, True), (True, False, False, False)):
        with pytest.raises(ValueError, match="at most one"):
            chosen_steps(*contradiction)


def test_torchrun_is_refused_and_a_process_beside_the_first_only_trains(
    finished: Path, random_base: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["pipeline", "--out", str(finished), "--base", str(random_base), *SMALL]
    with monkeypatch.context() as patch:
        patch.setenv("TORCHELASTIC_RUN_ID", "1")
        assert main(words) != 0
        assert "--train.devices" in capsys.readouterr().err
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "==" not in said and "Dice" not in said


def test_the_direct_network_is_one_more_system_where_it_is_asked_for(
    finished: Path, random_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Path, list[str], Path, int]] = []

    def predictors(data_root: Path, organs: list[str], folder: Path, seed: int, device: str) -> dict[str, Predictor]:
        asked.append((data_root, organs, folder, seed))
        entries = Manifest.load(data_root).of_split("train")
        labels = [PreparedCase(data_root, entry).box_mask(organs[0]) for entry in entries]
        return {organs[0]: fit_baselines(labels, ["extrusion"])["extrusion"]}

    monkeypatch.setattr(direct, "direct_predictors", predictors)
    words = ["eval", "--checkpoint", str(finished / "training" / "best"), "--data_root", str(finished / "dataset")]
    words += ["--base", str(random_base), "--stages", "structure", "--systems", "extrusion", "--seed", "3"]
    for name, more in (("with", ["--direct"]), ("without", [])):
        assert main([*words, "--eval_dir", str(tmp_path / name), *more]) == 0
    assert asked == [(finished / "dataset", ["phantom_bean"], tmp_path / "direct", 3)]
    systems = {name: read_json(tmp_path / name / "summary.json")["systems"] for name in ("with", "without")}
    assert list(systems["with"]) == ["extrusion", "direct"]
    assert systems["with"]["direct"]["dice"]["mean"] == systems["with"]["extrusion"]["dice"]["mean"]
    assert list(systems["without"]) == ["extrusion"]
