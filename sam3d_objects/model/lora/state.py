"""The tensors that an adapter consists of: its A and B matrices, and whatever trains fully beside them."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sam3d_objects.model.lora.injection import lora_layers
from sam3d_objects.model.lora.paths import collapse_paths
from sam3d_objects.model.lora.trainable import trainable_names


class LoadResult(NamedTuple):
    """What a load that was not strict left out, as `nn.Module.load_state_dict` reports it."""

    missing_keys: list[str]
    unexpected_keys: list[str]


def get_lora_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """Return copies of the adapter's tensors, on their device, by the names that `named_parameters` gives
    them.

    These are `<path>.lora_A` (rank, in) and `<path>.lora_B` (out, rank) of every adapted layer, and
    everything that is unfrozen beside them: what may move is saved, so that a reloaded adapter is the one
    that was trained. Where a module's own parameters are unfrozen, its buffers (such as running statistics)
    come with them.
    """
    return {name: tensor.detach().clone() for name, tensor in _adapter_tensors(model).items()}


def load_lora_state_dict(model: nn.Module, state: Mapping[str, Tensor], strict: bool = True) -> LoadResult:
    """Copy an adapter's tensors into a model in which the same layers are adapted and unfrozen; all or
    nothing.

    Args:
        model: with adapters injected.
        state: what `get_lora_state_dict` gave; values are cast to the dtype and moved to the device of the
            model's.
        strict: False lets tensors be missing or left over. A tensor of another shape is an error in any case.

    Returns:
        The names missing from the state, and those that the model has no place for; both empty if `strict`.

    Raises:
        ValueError: tensors are missing, left over, misshapen or not floating point; each is named. Nothing is
            changed then.
    """
    own = _adapter_tensors(model)
    result = check_adapter_tensors(own, state, strict)
    with torch.no_grad():
        for name, tensor in own.items():
            if name in state:
                tensor.copy_(state[name])
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


def _adapter_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return the model's own tensors, by name, that an adapter consists of."""
    parameters = dict(model.named_parameters())
    adapters = {f"{path}.{leaf}".lstrip(".") for path in lora_layers(model) for leaf in ("lora_A", "lora_B")}
    beside = [name for name in trainable_names(model) if name not in adapters]
    kept = adapters.union(beside)
    tensors: dict[str, Tensor] = {name: p for name, p in parameters.items() if name in kept}
    for owner in dict.fromkeys(name.rpartition(".")[0] for name in beside):
        module = model.get_submodule(owner)
        # Only what a state dict holds: buffers that are not persistent are rebuilt, not saved.
        saved = module.state_dict(keep_vars=True)
        for leaf, buffer in module.named_buffers(recurse=False):
            if leaf in saved:
                tensors[f"{owner}.{leaf}".lstrip(".")] = buffer
    return tensors
