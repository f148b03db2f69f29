"""Weights that are spread over processes (FSDP), and getting them whole.

Fabric's strategy for PyTorch's `fully_shard` (Zhao et al. 2023, arXiv 2304.11277, in its second version): each process
keeps a part of every parameter as a DTensor, under its own name, and gathers a block's weights when it is its turn.
Every parameter is split by itself, so that a frozen bf16 base and its float32 LoRA go together.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from sam3d_objects.model.checkpointing import BLOCKS


def shard_blocks(module: nn.Module, mesh: DeviceMesh) -> nn.Module:
    """Spread a module's parameters over the mesh's `data_parallel` processes, block by block, in place."""
    processes = mesh["data_parallel"]
    # Our losses leave the network's output as it is.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
    # Weights are let go after each forward pass, the outermost too: it could not see a change of weights otherwise.
    for block in [part for part in module.modules() if isinstance(part, BLOCKS) and part is not module]:
        fully_shard(block, mesh=processes, reshard_after_forward=True)
    fully_shard(module, mesh=processes, reshard_after_forward=True)
    return module


@contextmanager
def whole_weights(module: nn.Module) -> Iterator[None]:
    """Let what trains in a module be whole, ordinary parameters inside the block, to be read; all processes enter it.

    Without sharding it does nothing.
    """
    spread = [
        (part, name, parameter)
        for part in module.modules()
        for name, parameter in part.named_parameters(recurse=False)
        if isinstance(parameter, DTensor) and parameter.requires_grad
    ]
    for part, name, parameter in spread:
        setattr(part, name, nn.Parameter(whole(parameter.detach())))
    try:
        yield
    finally:
        for part, name, parameter in spread:
            setattr(part, name, parameter)


def whole(tensor: Tensor) -> Tensor:
    """Return a sharded tensor whole, in every process, and any other as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def spread_as(value: Tensor, like: Tensor) -> Tensor:
    """Return a whole tensor on the device of another, and spread over the processes as that one is."""
    value = value.to(like.device)
    if not isinstance(like, DTensor):
        return value
    # Each process cuts its part out of its own copy; the default would send the first one's around.
    return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)


def check_shardable(precision: str, compiled: bool) -> None:
    """Refuse what does not go with sharded weights.

    Raises:
        ValueError: the loss scaler of fp16 or a compiled network.
    """
    if precision == "16":
        raise ValueError("strategy fsdp goes with precision bf16 or 32, not with 16: choose another, or strategy ddp")
    if compiled:
        raise ValueError("strategy fsdp does not go with compile: turn one of them off")


def sharded(module: nn.Module) -> bool:
    """Return whether a module's weights are spread over processes, so that all must call it together."""
    return any(isinstance(part, FSDPModule) for part in module.modules())
