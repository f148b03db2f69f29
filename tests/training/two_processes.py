"""What `test_distributed.py` lets torchrun start twice: runs of several kinds, in one process group.

Each process notes in `notes.RANK.json` what only it can know.
"""

import io
import json
import sys
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from sam3d_objects.training import LoopOptions, MedicalTrainer, NonFiniteLossError, Stage, Validated
from sam3d_objects.training.launch import leave
from tests.training.stage_factories import make_toy
from tests.training.toy_stage import ToyStage

# Nine samples in batches of four (or two twice): the last of an epoch has one, so that one process has none.
OPTIONS: dict[str, Any] = {
    "epochs": 2,
    "accumulate": 2,
    "lr": 0.01,
    "ema_decay": 0.5,
    "patience": 0,
    "checkpoint_steps": 1,
    "device": "cpu",
}


def structure(data_root: Path, folder: Path) -> Stage:
    """The structure stage without dropout, which differs between processes."""
    from sam3d_objects.dataset import Augment, TS_SAM3D_Dataset
    from sam3d_objects.training import StructureOptions, StructureStage, ValidationSlices, contract_of
    from tests.training.small_model import small_model

    model = small_model()
    train = TS_SAM3D_Dataset(data_root, "train", augment=Augment(), variants=2)
    validation = ValidationSlices(TS_SAM3D_Dataset(data_root, "val"), seed=0, most=5)
    options = StructureOptions(target_iou_bar=0.0, draws=2)
    return StructureStage(model, train, validation, folder, contract_of(train, model), options)


class Run:
    """A run and what happened in it, in this process."""

    def __init__(self, data_root: Path, out: Path, name: str, batch_size: int, **options: Any) -> None:
        self.text, self.calls, self.name = io.StringIO(), 0, name
        self.stage = structure(data_root, out / "targets")
        chosen = LoopOptions(**{**OPTIONS, "batch_size": batch_size, **options})
        self.loop = MedicalTrainer(
            self.stage, chosen, out / name, validator=self.judge, console=Console(file=self.text, width=200)
        )

    def judge(self) -> Validated:
        """Judge by what this process alone knows."""
        self.calls += 1
        return Validated({"dice": 0.5 - self.calls / 10 - self.loop.processes.rank})

    def stop_after(self, batches: int, rank: int) -> None:
        """Ask for a stop in one process."""
        loss, done = self.stage.loss, 0

        def counting(*arguments: Any) -> Any:
            nonlocal done
            done += self.loop.learner.network.training
            self.loop._stop.asked |= done == batches and self.loop.processes.rank == rank
            return loss(*arguments)

        setattr(self.stage, "loss", counting)  # noqa: B010  (a method of this object alone)

    def notes(self) -> dict[str, Any]:
        counters = self.loop.counters
        return {
            "text": self.text.getvalue(),
            "calls": self.calls,
            "history": [row["validation"] for row in counters.history],
            "train": [row["train"] for row in counters.history],
            "kinds": sorted({type(p).__name__ for p in self.loop.learner.parameters.values()}),
        }


def refused(data_root: Path, out: Path, rank: int) -> list[str]:
    """What a process is left with where the first one's targets miss their bar."""
    stage, prepared = make_toy(data_root, out), []

    def prepare(device: torch.device, say: Any) -> None:
        prepared.append("prepared")
        if rank == 0:
            raise ValueError("case 7 is under the bar")

    setattr(stage, "prepare", prepare)  # noqa: B010  (a method of this object alone)
    try:
        options = LoopOptions(**{**OPTIONS, "batch_size": 2})
        MedicalTrainer(stage, options, out / "refused", console=Console(file=io.StringIO())).train()
    except ValueError as error:
        prepared += [type(error).__name__, str(error)]
    return prepared


def failed_judge(data_root: Path, out: Path) -> list[str]:
    """What a process is left with where the first one, which judges alone, cannot."""

    def judge() -> Validated:
        raise OSError("no space left for case 7")

    options = LoopOptions(**{**OPTIONS, "batch_size": 2})
    quiet = Console(file=io.StringIO())
    try:
        MedicalTrainer(make_toy(data_root, out), options, out / "judged", validator=judge, console=quiet).train()
    except (ValueError, OSError) as error:
        return [type(error).__name__, str(error)]
    return []


def main(data_root: Path, out: Path) -> None:
    """Train with both strategies, whole and stopped half-way; meet a bad sample, bad targets, and a failing judge."""
    notes: dict[str, Any] = {}
    for strategy in ("ddp", "fsdp"):
        run = Run(data_root, out, strategy, batch_size=2, strategy=strategy)
        run.loop.train()
        notes[strategy] = run.notes()
        stopped = Run(data_root, out, f"{strategy}_resumed", batch_size=2, strategy=strategy)
        stopped.stop_after(4, rank=1)  # one batch into the second epoch, with half an accumulation
        notes[f"{strategy}_interrupted"] = stopped.loop.train().interrupted
        resumed = Run(data_root, out, f"{strategy}_resumed", batch_size=2, strategy=strategy)
        resumed.calls = 1  # the first epoch's
        resumed.loop.train(resume=True)
    stage = make_toy(data_root, out)
    assert isinstance(stage, ToyStage)
    stage.bad_index = 4
    try:
        options = LoopOptions(**{**OPTIONS, "batch_size": 2})
        MedicalTrainer(stage, options, out / "bad", console=Console(file=io.StringIO())).train()
    except NonFiniteLossError as error:
        notes["bad"] = str(error)
    rank = torch.distributed.get_rank()
    notes["refused"] = refused(data_root, out, rank)
    notes["failed_judge"] = failed_judge(data_root, out)
    (out / f"notes.{rank}.json").write_text(json.dumps(notes))
    leave()
    assert not torch.distributed.is_initialized()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
