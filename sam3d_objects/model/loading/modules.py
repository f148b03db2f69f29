"""Modules and their weights: fill one strictly, tell one from another, stand in for one that is not there."""

import hashlib
from collections.abc import Mapping
from typing import NoReturn

import torch
from torch import Tensor, nn

from sam3d_objects.model.loading.tensors import kind_of

WEIGHT_DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
# How many tensors a message names.
NAMED = 5
REMEDY = "download it and its config again"


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


def load_module(
    module: nn.Module, state: Mapping[str, Tensor], where: str, dtype: torch.dtype, prefix: str = ""
) -> nn.Module:
    """Fill a module (built on the meta device) with tensors, strictly, cast to `dtype`.

    Args:
        state: the tensors by the module's own names.
        where, prefix: the file, and what stands before these names in it; errors give both.

    Raises:
        ValueError: keys that are missing, unknown, of another shape or kind, or not finite, each named with what was
            expected and found.
    """
    wanted = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    problems = {
        "missing": {name: f"expected {wanted[name]}, found nothing" for name in wanted.keys() - state},
        "not known": {name: f"expected nothing, found {kind_of(state[name])}" for name in state.keys() - wanted},
        "of another shape or kind": {
            name: f"expected {wanted[name]}, found {kind_of(state[name])}"
            for name in wanted.keys() & state
            if wanted[name] != tuple(state[name].shape) or state[name].dtype not in WEIGHT_DTYPES
        },
    }
    told = [_listed(what, names, prefix) for what, names in problems.items() if names]
    if told:
        raise ValueError(f"{where}: does not fit this model; {'; '.join(told)}; {REMEDY}")
    broken = {
        name: f"found {kind_of(value)} with NaN or infinity" for name, value in state.items() if not finite(value)
    }
    if broken:
        raise ValueError(f"{where}: damaged; {_listed('not finite', broken, prefix)}; {REMEDY}")
    module.load_state_dict({name: value.to(dtype) for name, value in state.items()}, assign=True)
    return module


def finite(value: Tensor) -> bool:
    """Whether a floating tensor holds neither NaN nor infinity."""
    # Smallest and largest carry NaN along, and take a thirtieth of the time of isfinite().all().
    return not value.numel() or all(bool(bound.isfinite()) for bound in value.aminmax())


def _listed(what: str, found: Mapping[str, str], prefix: str) -> str:
    named = [f"{prefix}{name} ({found[name]})" for name in sorted(found)[:NAMED]]
    return f"{len(found)} tensors {what}: {', '.join(named)}{', ...' * (len(found) > NAMED)}"


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
