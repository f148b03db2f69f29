"""Every stage, killed twenty times in one run, at random, ends as if nothing had happened."""

import io
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lightning_fabric.wrappers import _FabricModule
from rich.console import Console

from sam3d_objects.training import LoopOptions, MedicalTrainer, Stage
from tests.training.stage_factories import FACTORIES

KILLS = 20
# The decoder has three samples an epoch, the others nine. A life must be able to reach the end of an epoch, from the
# last checkpoint in it on: a batch, validation, two adapters.
BATCH_SIZE = {"toy": 2, "structure": 2, "latent": 2, "decoder": 1}
LONGEST_LIFE = {"toy": 6, "structure": 6, "latent": 6, "decoder": 4}


class KilledError(Exception):
    """Stands for a kill: nothing after it is written."""


def dying(stage: Stage, after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a stage die when it has computed, validated or saved so many times."""
    left = iter(range(after))

    def mortal(act: Callable[..., Any]) -> Callable[..., Any]:
        def either(first: Any, *rest: Any) -> Any:
            trains = isinstance(first, _FabricModule | Path)  # not the estimate of memory, before the first batch
            if trains and next(left, None) is None:
                raise KilledError
            return act(first, *rest)

        return either

    for name in ("loss", "validate", "save"):
        monkeypatch.setattr(stage, name, mortal(getattr(stage, name)))


def loop_of(name: str, stage: Stage, folder: Path) -> MedicalTrainer:
    options = LoopOptions(
        epochs=5,
        batch_size=BATCH_SIZE[name],
        accumulate=2,
        lr=0.01,
        ema_decay=0.8,
        patience=0,
        checkpoint_steps=1,
        device="cpu",
    )
    return MedicalTrainer(stage, options, folder, console=Console(file=io.StringIO()))


def ends(folder: Path, loop: MedicalTrainer) -> tuple[dict[str, bytes], list[dict[str, Any]]]:
    files = {name: (folder / name / "adapter_model.safetensors").read_bytes() for name in ("best", "last")}
    history = [{key: value for key, value in row.items() if key != "seconds"} for row in loop.counters.history]
    return files, history


@pytest.mark.parametrize("name", FACTORIES)
def test_killed_twenty_times_at_random(
    name: str, data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    targets = tmp_path / "targets"
    whole = loop_of(name, FACTORIES[name](data_root, targets), tmp_path / "whole")
    whole.train()

    chosen = random.Random(0)
    for _ in range(KILLS):
        stage = FACTORIES[name](data_root, targets)
        dying(stage, chosen.randint(1, LONGEST_LIFE[name]), monkeypatch)
        with pytest.raises(KilledError):
            loop_of(name, stage, tmp_path / "killed").train(resume=True)
    last = loop_of(name, FACTORIES[name](data_root, targets), tmp_path / "killed")
    last.train(resume=True)
    assert ends(tmp_path / "killed", last) == ends(tmp_path / "whole", whole)
