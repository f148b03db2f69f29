"""How many processes an evaluation takes, what it says meanwhile, and the training curves beside its scores."""

from pathlib import Path

import pytest
import torch

from sam3d_objects.cli import evaluation_run
from sam3d_objects.cli.evaluation_run import keep_history, told, worker_count
from sam3d_objects.cli.models import Models, load_models
from sam3d_objects.config import EvaluateOptions


@pytest.fixture(scope="module")
def models(random_base: Path, adapter: Path) -> Models:
    return load_models(str(random_base), adapter, EvaluateOptions(stages="structure"))


def test_a_process_for_each_core_and_eight_at_most(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    options = EvaluateOptions(device="cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for cores, expected in ((1, 1), (6, 6), (64, 8)):
        monkeypatch.setattr(evaluation_run, "cpu_count", lambda cores=cores: cores)
        assert worker_count(models, options) == expected
    assert worker_count(models, EvaluateOptions(device="cpu", workers=3)) == 3
    monkeypatch.setattr(evaluation_run, "SMALL_PARAMETERS", 1000)
    assert worker_count(models, options) == 0, "a large model has the memory for itself"


def test_workers_do_not_share_a_gpu(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert worker_count(models, EvaluateOptions()) == worker_count(models, EvaluateOptions(device="cpu")) == 0
    assert worker_count(models, EvaluateOptions(workers=0)) == 0
    with pytest.raises(ValueError, match=r"--workers 2 .* cannot share the GPU"):
        worker_count(models, EvaluateOptions(workers=2))


def test_without_a_terminal_a_line_is_printed_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    with told("evaluating", 3) as progress:
        for done in (1, 2, 3):
            progress(done, 3, f"{done} of 3 predictions scored, 0:0{3 - done} left")
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["1 of 3 predictions scored, 0:02 left", "3 of 3 predictions scored, 0:00 left"]


def test_training_curves_are_kept_beside_the_scores(tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    (run / "latent").mkdir(parents=True)
    (run / "elsewhere").mkdir()
    for folder in (run, run / "latent", run / "elsewhere"):
        (folder / "history.json").write_text(f'["{folder.name}"]')
    keep_history(run / "best", out)
    assert {path.name: path.read_text() for path in out.iterdir()} == {
        "history.json": '["run"]',
        "history_latent.json": '["latent"]',
    }
    keep_history(tmp_path / "no" / "best", tmp_path / "none")
    assert not (tmp_path / "none").exists()
