"""The tensors that an adapter consists of: its A and B matrices, and whatever trains fully beside them."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sam3d_objects.model.lora.adapters import adapter_names
from sam3d_objects.model.lora.beside import beside_of
from sam3d_objects.model.lora.options import DEFAULT_ADAPTER
from sam3d_objects.model.lora.paths import collapse_paths
from sam3d_objects.model.lora.reference import remember
from sam3d_objects.model.lora.walk import active_adapters, lora_layers


class LoadResult(NamedTuple):
    """What a load that was not strict left out, as `nn.Module.load_state_dict` reports it."""

    missing_keys: list[str]
    unexpected_keys: list[str]


def get_lora_state_dict(model: nn.Module, adapter: str | None = None) -> dict[str, Tensor]:
    """Return copies of an adapter's tensors, on their device.

    These are `<path>.lora_A` (rank, in) and `<path>.lora_B` (out, rank) of every layer that it adapts (and
    `lora_magnitude` with DoRA, `lora_A0` and `lora_B0` with PiSSA), and everything that is unfrozen beside them: what
    may move is saved, so that a reloaded adapter is the one that was trained. Where a module's own parameters are
    unfrozen, its buffers (such as running statistics) come with them. Names do not depend on the adapter's name; those
    of `default` are the ones that `named_parameters` gives.

    Args:
        model: with adapters.
        adapter: by default the one in use, or the only one.

    Raises:
        ValueError: there is no such adapter, or several are in use and none is named.
    """
    return {name: tensor.detach().clone() for name, tensor in adapter_tensors(model, adapter).items()}


def load_lora_state_dict(
    model: nn.Module, state: Mapping[str, Tensor], strict: bool = True, adapter: str | None = None
) -> LoadResult:
    """Copy an adapter's tensors into a model in which the same layers are adapted and unfrozen; all or
    nothing.

    Args:
        model: with adapters injected.
        state: what `get_lora_state_dict` gave; values are cast to the dtype and moved to the device of the
            model's.
        strict: False lets tensors be missing or left over. A tensor of another shape is an error in any case.
        adapter: by default the one in use, or the only one.

    Returns:
        The names missing from the state, and those that the model has no place for; both empty if `strict`.

    Raises:
        ValueError: tensors are missing, left over, misshapen or not floating point; each is named. Nothing is
            changed then.
    """
    own = adapter_tensors(model, adapter)
    result = check_adapter_tensors(own, state, strict)
    with torch.no_grad():
        for name, tensor in own.items():
            if name in state:
                tensor.copy_(state[name])
    remember(model)
    return result


def check_adapter_tensors(
    expected: Mapping[str, Tensor], state: Mapping[str, Tensor], strict: bool = True
) -> LoadResult:
    """Compare an adapter's tensors with those (by shape; on any device) that a model has a place for.

    Returns and raises as `load_lora_state_dict` does.
    """
    missing = [name for name in expected if name not in state]
    extra = [name for name in state if name not in expected]
    problems = []
    for name in expected.keys() & state.keys():
        needed, came = expected[name], state[name]
        if needed.shape != came.shape:
            problems.append(f"{name} has shape {tuple(came.shape)}, the model needs {tuple(needed.shape)}")
        if needed.is_floating_point() != came.is_floating_point():
            problems.append(f"{name} holds {came.dtype}, the model needs {needed.dtype}")
    problems.sort()
    if strict and missing:
        problems.append(f"missing: {', '.join(collapse_paths(missing))}")
    if strict and extra:
        problems.append(f"not in the model: {', '.join(collapse_paths(extra))}")
    if problems:
        hint = "" if expected else " (it has no adapter: inject one first)"
        raise ValueError(f"the adapter's tensors don't fit the model{hint}: {'; '.join(problems)}")
    return LoadResult(missing, extra)


def adapter_tensors(model: nn.Module, adapter: str | None = None) -> dict[str, Tensor]:
    """Return the tensors themselves, not copies, that an adapter consists of (see `get_lora_state_dict`)."""
    name = _chosen(model, adapter)
    found: dict[str, Tensor] = {}
    for path, layer in lora_layers(model).items():
        if name in layer.options:
            found |= {f"{path}.{leaf}".lstrip("."): tensor for leaf, tensor in layer.tensors_of(name).items()}
    return found | beside_of(model, name, active_adapters(model))


def _chosen(model: nn.Module, adapter: str | None) -> str:
    """Return the adapter that is meant: the one that is named, the one in use, or the only one."""
    known, active = adapter_names(model), list(active_adapters(model))
    if adapter is not None:
        if known and adapter not in known:
            raise ValueError(f"the model has the adapters {', '.join(known)}, not {adapter!r}")
        return adapter
    candidates = active or known or [DEFAULT_ADAPTER]
    if len(candidates) > 1:
        raise ValueError(f"name one of the adapters {', '.join(candidates)}: several are in use, or none of several")
    return candidates[0]
