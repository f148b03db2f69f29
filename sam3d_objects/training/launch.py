"""Fabric on the device, in the processes and with the precision that are asked for.

Processes come from `torchrun`, from `fabric run` (which is `torchrun` with some environment variables) or, with
`devices` above 1, from Fabric, which starts this program again for each of them.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from inspect import signature
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy, ModelParallelStrategy, Strategy
from torch.nn.parallel import DistributedDataParallel

from sam3d_objects.training.precision import precision_plugin, resolve_device, resolve_precision
from sam3d_objects.training.sharding import check_shardable, shard_blocks

SINGLE, DDP, FSDP = "single", "ddp", "fsdp"
# While the first process makes targets or reconstructs validation slices, the others wait for it.
_PATIENCE = timedelta(hours=12)
_FABRIC_RUN = "LT_"
# Buffers are constants: nothing is sent before each forward pass. PyTorch 2.13 renamed the option.
_BUFFER_OPTION = (
    "forward_sync_buffers"
    if "forward_sync_buffers" in signature(DistributedDataParallel).parameters
    else "broadcast_buffers"
)


@dataclass(frozen=True)
class Launched:
    """A launched Fabric, and what `auto` came to: precision 32, bf16 or 16; strategy single, ddp or fsdp."""

    fabric: Fabric
    precision: str
    strategy: str

    def record(self) -> dict[str, Any]:
        """Return, as JSON, what a resumed run must share; it is in the place of the options that led to it."""
        return {
            "device": self.fabric.device.type,
            "precision": self.precision,
            "processes": self.fabric.world_size,
            "strategy": self.strategy,
        }


@dataclass(frozen=True)
class _Wanted:
    """What the options and the environment ask for.

    `devices` is what one machine has of them, or a list such as 0,2; `processes` are those of all machines.
    """

    device: str
    devices: int | str
    machines: int
    processes: int
    strategy: str


def first_process() -> bool:
    """Return whether this process is the one that writes and prints, before any Fabric was made."""
    return int(os.environ.get("RANK") or os.environ.get("LOCAL_RANK") or 0) == 0


def leave() -> None:
    """Wait for the other processes, if there are any, and end the connection to them.

    Threads of gloo that are alive when Python ends may abort a process whose work is done.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def launch(device: str, precision: str, devices: int, strategy: str, compiled: bool = False) -> Launched:
    """Join or start the processes of a run.

    Args:
        device, precision, devices, strategy, compiled: as in `LoopOptions`; what `torchrun` or `fabric run` say goes
            where an option is left at its default.

    Raises:
        ValueError: the device is not there, or cannot do the precision; more devices than there are; options that
            contradict the environment or each other.
    """
    wanted = _wanted(device, devices, strategy)
    kind, index = resolve_device(wanted.device)
    precision = resolve_precision(precision, kind)
    chosen = wanted.strategy
    if chosen == "auto":
        chosen = DDP if wanted.processes > 1 else SINGLE
    if chosen == FSDP:
        check_shardable(precision, compiled)
    if chosen != SINGLE:
        _check_devices(kind, wanted)
    with _without_fabric_run():
        fabric = Fabric(
            accelerator=kind,
            strategy=_strategy(chosen, wanted.processes),
            devices=[index] if chosen == SINGLE and kind != "cpu" else wanted.devices,
            num_nodes=wanted.machines,
            plugins=precision_plugin(precision, kind),
        )
        fabric.launch()
    return Launched(fabric, precision, chosen)


def _strategy(name: str, processes: int) -> Strategy | str:
    if name == DDP:
        # Not every parameter has a gradient in every batch: a released network has some that nothing uses.
        options: dict[str, Any] = {_BUFFER_OPTION: False, "find_unused_parameters": True}
        return DDPStrategy(timeout=_PATIENCE, **options)
    if name == FSDP:
        return ModelParallelStrategy(
            shard_blocks, data_parallel_size=processes, tensor_parallel_size=1, timeout=_PATIENCE
        )
    return "auto"


def _wanted(device: str, devices: int, strategy: str) -> _Wanted:
    """Join the options with what `torchrun` and `fabric run` left in the environment."""
    if not torch.distributed.is_torchelastic_launched():
        return _Wanted(device, devices, 1, devices, strategy)
    here, everywhere = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
    if devices not in (1, here):
        raise ValueError(f"devices is {devices}, and {here} processes were started on this machine: leave it out")
    said = os.environ.get(f"{_FABRIC_RUN}STRATEGY")
    if said is not None and (said not in (DDP, FSDP) or strategy not in ("auto", said)):
        raise ValueError(f"`fabric run --strategy {said}`: the run's strategy is {strategy}, of auto, {DDP}, {FSDP}")
    if f"{_FABRIC_RUN}PRECISION" in os.environ:
        raise ValueError("`fabric run --precision`: give the precision to the training itself instead")
    accelerator = os.environ.get(f"{_FABRIC_RUN}ACCELERATOR", "auto").replace("gpu", "cuda")
    listed = os.environ.get(f"{_FABRIC_RUN}DEVICES", here)  # may name the GPUs: 0,2
    return _Wanted(
        device=accelerator if device == "auto" else device,
        devices=int(listed) if str(listed).isdecimal() else listed,
        machines=everywhere // here,
        processes=everywhere,
        strategy=said or strategy,
    )


def _check_devices(kind: str, wanted: _Wanted) -> None:
    if ":" in wanted.device:
        raise ValueError(f"device {wanted.device!r} is one device; with several, say cuda (CUDA_VISIBLE_DEVICES picks)")
    count = wanted.devices
    if kind == "cuda" and isinstance(count, int) and count > torch.cuda.device_count():
        raise ValueError(f"{count} processes need as many GPUs; this machine has {torch.cuda.device_count()}")


@contextmanager
def _without_fabric_run() -> Iterator[None]:
    """Hide the variables of `fabric run`: Fabric would put its own `ddp` in the place of the strategy above."""
    hidden = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith(_FABRIC_RUN)}
    try:
        yield
    finally:
        os.environ.update(hidden)
