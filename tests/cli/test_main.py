"""The commands as a user calls them."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import pytest

from sam3d_objects.cli.main import COMMANDS, FAILED, WRONG_USE, main, run
from sam3d_objects.config import PhantomOptions
from sam3d_objects.training.processes import FirstFailedError

REPOSITORY = Path(__file__).resolve().parents[2]


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run this Python with the repository's package, away from the repository."""
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "COLUMNS": "100"}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env=environment, cwd="/", check=False
    )


def test_the_overview_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in COMMANDS)
    assert "not for diagnosis" in text


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"usage: sam3d-med {command}" in text
    assert f"sam3d-med {command} --" in text, "the help shows an example"


def test_help_loads_no_heavy_library_and_is_instant() -> None:
    code = (
        "import sys; from sam3d_objects.cli import main; main(['train', '--help']); "
        "heavy = {'torch', 'monai', 'matplotlib', 'trimesh', 'skimage', 'scipy', 'nibabel', 'numpy'}; "
        "print('LOADED', sorted(heavy & set(sys.modules)))"
    )
    # The best of three: the machine may be busy.
    durations = []
    for _ in range(3):
        began = time.monotonic()
        done = python("-c", code)
        durations.append(time.monotonic() - began)
        assert "LOADED []" in done.stdout, done.stdout + done.stderr
    assert min(durations) < 1.5


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], r"no command 'trian'. Did you mean 'train'?"),
        (["train", "--data_rot", "x"], "unknown option --data_rot. Did you mean '--data_root'?"),
        (["prepare", "--out", "x"], "raw_nifti"),
        (["train", "--data_root", "x", "--config", "/nowhere.yaml"], "/nowhere.yaml"),
        (["eval", "--checkpoint", "x", "--data_root", "y", "--systems", "bse"], "EvaluateOptions.systems"),
    ],
)
def test_wrong_use_is_one_line(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == WRONG_USE
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["prepare", "--raw_nifti", "/nowhere", "--out", "{out}"], "/nowhere"),
        (["train", "--data_root", "/nowhere"], "/nowhere is not a prepared data set"),
        (["pipeline", "--raw_nifti", "/nowhere", "--out", "{out}"], "/nowhere is not a folder"),
        (["pipeline", "--out", "{out}", "--only_train"], "no prepared data set"),
        (["pipeline", "--out", "{out}", "--only_eval"], "no adapter"),
        (["pipeline", "--out", "{out}", "--only_eval", "--only_train"], "at most one of"),
        (["eval", "--checkpoint", "/nowhere", "--data_root", "/nothing"], "/no"),
        (["reconstruct", "--checkpoint", "/nowhere", "--out", "{out}"], "--image"),
    ],
)
def test_a_failure_is_one_line(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([word.replace("{out}", str(tmp_path / "out")) for word in words]) == FAILED
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def failing(out: Annotated[Path, "where"], options: PhantomOptions) -> None:
    """A command that fails."""
    raise ValueError(f"cannot do {out}")


def interrupted(out: Annotated[Path, "where"], options: PhantomOptions) -> None:
    """A command that somebody stops."""
    raise KeyboardInterrupt


def test_of_several_processes_the_one_that_failed_speaks(capsys: pytest.CaptureFixture[str]) -> None:
    def fails() -> None:
        raise FirstFailedError("case 7 is under the bar")

    assert run("x", fails, []) == FAILED
    assert capsys.readouterr().err == ""


def test_a_traceback_is_shown_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("x", failing, ["--out", "a"]) == FAILED
    monkeypatch.setenv("SAM3D_TRACEBACK", "1")
    with pytest.raises(ValueError, match="cannot do a"):
        run("x", failing, ["--out", "a"])


def test_waiting_threads_do_not_spin_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    run("x", failing, ["--out", "a"])
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    run("x", failing, ["--out", "a"])
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"


def test_an_interrupt_has_its_own_status() -> None:
    assert run("x", interrupted, ["--out", "a"]) == 130


@pytest.mark.parametrize("script", ["prepare_dataset.py", "train_medical.py", "eval_medical.py", "reconstruct.py"])
def test_the_scripts_work_alone(script: str) -> None:
    done = python(str(REPOSITORY / "scripts" / script), "--help")
    assert done.returncode == 0, done.stderr
    assert f"usage: {script}" in done.stdout


def test_the_trainer_can_be_imported_from_the_script() -> None:
    from sam3d_objects import training
    from scripts import train_medical
    from scripts.train_medical import MedicalTrainer

    assert MedicalTrainer is training.MedicalTrainer
    with pytest.raises(AttributeError, match="NoSuchThing"):
        _ = train_medical.NoSuchThing
