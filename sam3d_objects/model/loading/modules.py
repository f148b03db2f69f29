"""Modules and their weights: fill one strictly, tell one from another, stand in for one that is not there."""

import hashlib
from collections.abc import Mapping
from typing import NoReturn

import torch
from torch import Tensor, nn


class AbsentModule(nn.Module):
    """In the place of a module whose weights are not there; it has no weights, and calling it says why.

    Args:
        reason: what is missing and how to get it.
    """

    def __init__(self, reason: str) -> None:
        super().__init__()
        self.reason = reason

    def forward(self, *inputs: object) -> NoReturn:
        """Raise ValueError with the reason."""
        raise ValueError(self.reason)


def load_module(module: nn.Module, state: Mapping[str, Tensor], where: str, dtype: torch.dtype) -> nn.Module:
    """Fill a module (built on the meta device) with tensors, strictly, cast to `dtype`.

    Raises:
        ValueError: keys that are missing, unknown, or of another shape, each named with what was expected and found.
    """
    wanted = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    missing, extra = sorted(set(wanted) - set(state)), sorted(set(state) - set(wanted))
    shapes = [
        f"{name} (expected {wanted[name]}, found {tuple(state[name].shape)} {state[name].dtype})"
        for name in sorted(set(wanted) & set(state))
        if wanted[name] != tuple(state[name].shape) or not state[name].is_floating_point()
    ]
    problems = [("missing", missing), ("not known", extra), ("of another shape or kind", shapes)]
    told = [f"{len(names)} tensors {what}: {', '.join(names[:5])}" for what, names in problems if names]
    if told:
        raise ValueError(f"{where}: does not fit this model; {'; '.join(told)}")
    module.load_state_dict({name: value.to(dtype) for name, value in state.items()}, assign=True)
    return module


def fingerprint(module: nn.Module) -> str:
    """SHA-256 over the names, dtypes, shapes and bytes of a module's tensors, in the order of their names."""
    return state_fingerprint(module.state_dict())


def state_fingerprint(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over the names, dtypes, shapes and bytes of tensors, in the order of their names."""
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        digest.update(f"{name}|{value.dtype}|{tuple(value.shape)}|".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
