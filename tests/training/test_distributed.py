"""Two processes train what one does on batches twice as large."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from sam3d_objects.training.batches import share_of
from sam3d_objects.training.launch import first_process
from tests.conftest import REPOSITORY
from tests.training.two_processes import Run

# The largest difference there is of the whole adapter, relative to its norm. Sums in another order differ by rounding,
# which AdamW divides by the gradient's own size.
TOLERANCE = 1e-6
SECONDS = 300


class Outcome(NamedTuple):
    """What two processes left, and what one process did with batches of four."""

    out: Path
    notes: list[dict[str, Any]]
    one: Run


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture(scope="module")
def outcome(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    out = tmp_path_factory.mktemp("processes")
    one = Run(data_root, out, "one", batch_size=4)
    one.loop.train()
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc_per_node",
        "2",
        "--master_port",
        str(free_port()),
    ]
    command += ["-m", "tests.training.two_processes", str(data_root), str(out)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return Outcome(out, [json.loads((out / f"notes.{rank}.json").read_text()) for rank in (0, 1)], one)


def adapter(out: Path, name: str, which: str = "last") -> dict[str, Tensor]:
    return load_file(out / name / which / "adapter_model.safetensors")


def flat(tensors: dict[str, Tensor]) -> Tensor:
    return torch.cat([tensors[name].flatten().double() for name in sorted(tensors)])


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_train_the_adapter_of_one_with_the_doubled_batch(outcome: Outcome, strategy: str) -> None:
    one, two = adapter(outcome.out, "one"), adapter(outcome.out, strategy)
    assert {name: value.shape for name, value in one.items()} == {name: value.shape for name, value in two.items()}
    assert (flat(one) - flat(two)).norm() < TOLERANCE * flat(one).norm()
    start = flat(adapter(outcome.out, "one", "best"))  # of the first epoch: the tolerance is small beside a step
    assert (flat(one) - start).norm() > 1000 * TOLERANCE * flat(one).norm()


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_losses_are_those_of_all_samples_in_every_process(outcome: Outcome, strategy: str) -> None:
    one = outcome.one.notes()
    for notes in outcome.notes:
        for kind in ("history", "train"):
            for mine, wanted in zip(notes[strategy][kind], one[kind], strict=True):
                assert mine == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_stopped_by_one_process_with_half_an_accumulation_and_resumed(outcome: Outcome, strategy: str) -> None:
    assert [notes[f"{strategy}_interrupted"] for notes in outcome.notes] == [True, True]
    for which in ("best", "last"):
        whole, resumed = (adapter(outcome.out, name, which) for name in (strategy, f"{strategy}_resumed"))
        assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


def test_the_first_process_alone_speaks_and_judges(outcome: Outcome) -> None:
    first, second = outcome.notes
    assert "2 processes (ddp)" in first["ddp"]["text"] and second["ddp"]["text"] == ""
    assert [notes["ddp"]["calls"] for notes in outcome.notes] == [2, 0]
    assert len(list((outcome.out / "ddp" / "tensorboard").iterdir())) == 1


def test_sharded_weights_are_judged_by_all_processes_together(outcome: Outcome) -> None:
    assert [notes["fsdp"]["calls"] for notes in outcome.notes] == [2, 2]
    assert outcome.notes[0]["fsdp"]["kinds"] == ["DTensor"]


def test_a_bad_sample_of_one_process_stops_all_and_is_named(outcome: Outcome) -> None:
    first, second = (notes["bad"] for notes in outcome.notes)
    assert first == second and "loss is nan" in first and "toy_4" in first


def test_what_the_first_process_refuses_the_others_refuse_in_its_words(outcome: Outcome) -> None:
    first, second = (notes["refused"] for notes in outcome.notes)
    assert first == ["prepared", "ValueError", "case 7 is under the bar"]
    assert second == ["FirstFailedError", "case 7 is under the bar"]


def test_where_the_first_process_cannot_judge_the_others_end_as_well(outcome: Outcome) -> None:
    first, second = (notes["failed_judge"] for notes in outcome.notes)
    assert first == ["OSError", "no space left for case 7"]
    assert second == ["FirstFailedError", "no space left for case 7"]


def test_a_run_of_two_processes_is_not_resumed_by_one(outcome: Outcome) -> None:
    with pytest.raises(ValueError, match=r"options\.processes: the run has 2, now 1"):
        outcome.one.loop.load_checkpoint(outcome.out / "ddp")


def test_shares_by_hand() -> None:
    assert [share_of([7, 8, 9], rank, 2).indices for rank in (0, 1)] == [[7, 9], [8]]
    without = share_of([7], 1, 2)
    assert without.indices == [7] and without.weight == 0 and without.total == 1
    rows = torch.arange(3)
    assert [rows[share_of([7, 8, 9], rank, 2).rows].tolist() for rank in (0, 1)] == [[0, 2], [1]]


def test_the_first_process_is_known_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert first_process()
    monkeypatch.setenv("LOCAL_RANK", "1")  # Fabric's own processes
    assert not first_process()
    monkeypatch.setenv("RANK", "0")
    assert first_process()
