"""Modules that rest on the CPU and are on the device only while they run."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

import torch
from torch import Tensor, nn


@contextmanager
def on_device(module: nn.Module, device: torch.device | str | None) -> Iterator[nn.Module]:
    """Yield `module` with its weights on `device`; after, also after an exception, they rest where they were.

    The resting weights are kept, so that nothing is copied back: what is changed inside the block is lost. A module
    that is there already is left alone, so that blocks may be nested.

        with on_device(model.structure_flow, model.offload_device):
            latents = model.sample_structure(...)

    Args:
        device: None moves nothing.

    Raises:
        ValueError: a weight is being trained; its change would be lost.
    """
    if device is None:
        yield module
        return
    target = torch.device(device)
    away = [value for value in chain(module.parameters(), module.buffers()) if not is_on(value, target)]
    if any(value.requires_grad for value in away):
        raise ValueError(
            f"{type(module).__name__} is being trained, so it cannot be offloaded; load it without offload"
        )
    resting = [value.data for value in away]
    try:
        for value in away:
            value.data = moved(value.data, target)
        yield module
    finally:
        for value, data in zip(away, resting, strict=True):
            value.data = data


def is_on(value: Tensor, device: torch.device) -> bool:
    """Whether a tensor is on a device; 'cuda' without a number is any GPU."""
    return value.device.type == device.type and device.index in (None, value.device.index)


def moved(value: Tensor, device: torch.device) -> Tensor:
    """A copy of a tensor on another device."""
    return value.to(device)
