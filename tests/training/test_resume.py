"""A run that was killed, wherever, and resumed ends as one that was not."""

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric.wrappers import _FabricModule
from rich.console import Console

from sam3d_objects.training import LoopOptions, MedicalTrainer
from tests.training.toy_stage import ToyStage

OPTIONS: dict[str, Any] = {
    "epochs": 3,
    "batch_size": 2,
    "accumulate": 3,
    "device": "cpu",
    "lr": 0.05,
    "ema_decay": 0.8,
    "patience": 0,
    "checkpoint_steps": 1,
}
BATCHES = 4 * 3 + 2 * 3  # three epochs of 4 training batches, and 2 validation batches after each


class KilledError(Exception):
    """Stands for a kill: nothing after it is written."""


class FragileStage(ToyStage):
    """Dies in its n-th batch, training or validation; or asks the process to stop there."""

    def __init__(self, dies_in: int | None = None, stops: Any = None) -> None:
        super().__init__()
        self.dies_in, self.stops, self.batches = dies_in, stops, 0

    def _live(self) -> None:
        if self.batches == self.dies_in:
            if self.stops is None:
                raise KilledError
            self.stops()
        self.batches += 1

    def loss(self, network: Any, batch: Any, draws: Any) -> Any:
        result = super().loss(network, batch, draws)
        if isinstance(network, _FabricModule):  # not the estimate of memory, before the first batch
            self._live()
        return result

    def validate(self, *arguments: Any) -> Any:
        self._live()
        return super().validate(*arguments)


def run(folder: Path, stage: ToyStage, resume: bool = False, **options: Any) -> MedicalTrainer:
    loop = MedicalTrainer(stage, LoopOptions(**{**OPTIONS, **options}), folder, console=Console(file=io.StringIO()))
    torch.rand(3)  # a resumed process is not in the state of a fresh one
    loop.train(resume)
    return loop


def results(folder: Path) -> dict[str, bytes]:
    names = ("best/adapter_model.safetensors", "last/adapter_model.safetensors", "best/metrics.json")
    return {name: (folder / name).read_bytes() for name in names}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], list[dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("uninterrupted")
    loop = run(folder, ToyStage())
    return results(folder), loop.counters.history


def without_seconds(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in history]


@pytest.mark.parametrize("batch", range(BATCHES))
def test_killed_in_any_batch_and_resumed(tmp_path: Path, uninterrupted: Any, batch: int) -> None:
    with pytest.raises(KilledError):
        run(tmp_path, FragileStage(dies_in=batch))
    loop = run(tmp_path, ToyStage(), resume=True)
    assert results(tmp_path) == uninterrupted[0]
    assert without_seconds(loop.counters.history) == without_seconds(uninterrupted[1])


@pytest.mark.parametrize("batch", [0, 1, 5, 9])
def test_asked_to_stop_with_half_an_accumulation(tmp_path: Path, uninterrupted: Any, batch: int) -> None:
    stage = FragileStage(dies_in=batch)
    loop = MedicalTrainer(stage, LoopOptions(**OPTIONS), tmp_path, console=Console(file=io.StringIO()))
    stage.stops = lambda: setattr(loop._stop, "asked", True)
    assert loop.train().interrupted
    resumed = MedicalTrainer(ToyStage(), LoopOptions(**OPTIONS), tmp_path, console=Console(file=io.StringIO()))
    resumed.load_checkpoint()
    waiting = any(p.grad is not None for p in resumed.learner.parameters.values())
    assert waiting == (resumed.counters.position not in (0, 3, 4))
    run(tmp_path, ToyStage(), resume=True)
    assert results(tmp_path) == uninterrupted[0]


SCRIPT = """
import io, os, signal, sys
from pathlib import Path
from rich.console import Console
from tests.training.test_resume import OPTIONS, FragileStage
from sam3d_objects.training import LoopOptions, MedicalTrainer
stage = FragileStage(dies_in=7, stops=lambda: os.kill(os.getpid(), signal.SIGKILL))
MedicalTrainer(stage, LoopOptions(**OPTIONS), Path(sys.argv[1]), console=Console(file=io.StringIO())).train()
"""


def test_killed_by_the_system_and_resumed(tmp_path: Path, uninterrupted: Any) -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == -9, done.stderr
    run(tmp_path, ToyStage(), resume=True)
    assert results(tmp_path) == uninterrupted[0]


def test_a_finished_run_is_not_run_again(tmp_path: Path) -> None:
    run(tmp_path, ToyStage())
    before = (tmp_path / "state.safetensors").stat().st_mtime_ns
    loop = run(tmp_path, FragileStage(dies_in=0), resume=True)
    assert loop.counters.finished and (tmp_path / "state.safetensors").stat().st_mtime_ns == before


def test_a_run_is_not_overwritten(tmp_path: Path) -> None:
    run(tmp_path, ToyStage())
    with pytest.raises(ValueError, match="holds a run already"):
        run(tmp_path, ToyStage())


def test_another_run_is_refused_and_the_differences_are_named(tmp_path: Path) -> None:
    run(tmp_path, ToyStage())
    other = ToyStage(noise=0.3)
    with pytest.raises(ValueError, match=r"another run[\s\S]*options.lr: the run has 0.05, now 0.1") as caught:
        run(tmp_path, other, resume=True, lr=0.1, num_workers=1)
    assert "stage.noise: the run has 0.1, now 0.3" in str(caught.value)
    assert "num_workers" not in str(caught.value)
