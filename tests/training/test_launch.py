"""Which processes, devices and precision a run gets, and what is refused. `test_distributed.py` starts some."""

import os
from typing import Any

import pytest
import torch

from sam3d_objects.training.launch import launch
from sam3d_objects.training.options import LoopOptions


@pytest.fixture
def torchrun(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """As if torchrun had started this as one of two processes on each of two machines."""
    monkeypatch.setattr(torch.distributed, "is_torchelastic_launched", lambda: True)
    for name, value in {"LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def asked(monkeypatch: pytest.MonkeyPatch, **options: Any) -> dict[str, Any]:
    """What Fabric would be made with."""
    seen: dict[str, Any] = {}

    class Fabric:
        def __init__(self, **arguments: Any) -> None:
            seen.update(arguments)

        def launch(self) -> None:
            seen["hidden"] = not any(name.startswith("LT_") for name in os.environ)

    monkeypatch.setattr("sam3d_objects.training.launch.Fabric", Fabric)
    chosen = {"device": "cpu", "precision": "auto", "devices": 1, "strategy": "auto", **options}
    launched = launch(**chosen)
    return {**seen, "chosen": launched.strategy, "precision": launched.precision}


def test_one_process_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = asked(monkeypatch)
    assert seen["strategy"] == "auto" and seen["chosen"] == "single" and seen["precision"] == "32"
    assert (seen["devices"], seen["num_nodes"], seen["accelerator"]) == (1, 1, "cpu")


def test_several_devices_are_ddp_unless_sharding_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked(monkeypatch, devices=3)["chosen"] == "ddp"
    seen = asked(monkeypatch, devices=3, strategy="fsdp")
    assert seen["chosen"] == "fsdp" and seen["devices"] == 3


def test_torchrun_says_how_many(torchrun: pytest.MonkeyPatch) -> None:
    seen = asked(torchrun)
    assert (seen["chosen"], seen["devices"], seen["num_nodes"]) == ("ddp", 2, 2)
    with pytest.raises(ValueError, match="devices is 3, and 2 processes were started"):
        asked(torchrun, devices=3)


def test_fabric_run_chooses_strategy_devices_and_accelerator(torchrun: pytest.MonkeyPatch) -> None:
    for name, value in {"STRATEGY": "fsdp", "DEVICES": "0,2", "ACCELERATOR": "cpu"}.items():
        torchrun.setenv(f"LT_{name}", value)
    seen = asked(torchrun, device="auto")
    assert (seen["chosen"], seen["devices"], seen["accelerator"], seen["hidden"]) == ("fsdp", "0,2", "cpu", True)
    assert os.environ["LT_DEVICES"] == "0,2"  # put back
    with pytest.raises(ValueError, match=r"--strategy fsdp.*: the run's strategy is ddp"):
        asked(torchrun, strategy="ddp")
    torchrun.setenv("LT_STRATEGY", "deepspeed")
    with pytest.raises(ValueError, match=r"--strategy deepspeed.* of auto, ddp, fsdp"):
        asked(torchrun)
    torchrun.delenv("LT_STRATEGY")
    torchrun.setenv("LT_PRECISION", "16")
    with pytest.raises(ValueError, match="give the precision to the training itself"):
        asked(torchrun)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"devices": 2, "device": "cpu:0"}, "'cpu:0' is one device"),
        ({"strategy": "fsdp", "compiled": True}, "fsdp does not go with compile"),
        ({"precision": "16"}, "precision 16 needs a CUDA GPU"),
    ],
)
def test_what_does_not_go_together_is_refused(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        asked(monkeypatch, **options)


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match="3 processes need as many GPUs; this machine has 2"):
        asked(monkeypatch, device="cuda", devices=3, precision="32")
    with pytest.raises(ValueError, match="fsdp goes with precision bf16 or 32"):
        asked(monkeypatch, device="cuda", devices=2, strategy="fsdp", precision="16")


@pytest.mark.parametrize(
    ("options", "message"), [({"devices": 0}, "devices must be at least 1"), ({"strategy": "dp"}, "one of auto, ddp")]
)
def test_options_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LoopOptions(**options)
