"""Fold adapters into the weights; what results holds no trace of LoRA."""

import copy

from torch import Tensor, nn

from sam3d_objects.model.lora.injection import outer_modules, replace_module
from sam3d_objects.model.lora.layers import LoRALinear


def merge_lora_weights(model: nn.Module) -> int:
    """Replace every adapted layer, in place, by a plain linear one with the update added to its weight.

    The sums are taken in float32 and cast to the base's dtype. Requires-grad flags stay as they were (merged
    layers are frozen); the names of the state dict are those of the base again.

    Returns:
        The number of layers merged.

    Raises:
        ValueError: the model has no adapter, is itself an adapted layer (`LoRALinear.merge_weights` returns
            the merged one), or an adapter is disabled.
    """
    if isinstance(model, LoRALinear):
        raise ValueError("a single adapted layer can't be replaced in place: use its merge_weights()")
    places = [(path, module) for path, module in outer_modules(model) if isinstance(module, LoRALinear)]
    if not places:
        raise ValueError("the model has no adapter to merge: load one first (or it is merged already)")
    off = [path for path, layer in places if not layer.enabled]
    if off:
        raise ValueError(f"disabled adapters are not merged; enable or remove {', '.join(off[:8])}")
    merged: dict[int, nn.Linear] = {}
    for path, layer in places:
        if id(layer) not in merged:
            merged[id(layer)] = layer.merge_weights()
        replace_module(model, path, merged[id(layer)])
    return len(merged)


def merged_model(model: nn.Module) -> nn.Module:
    """Return a deep copy with the adapters merged (see `merge_lora_weights`); the model stays as it is."""
    if isinstance(model, LoRALinear):
        return model.merge_weights()
    merged = copy.deepcopy(model)
    merge_lora_weights(merged)
    return merged


def base_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """Return the model's state dict under the names that it had before injection, without the adapters.

    Values are the model's own tensors. What trains fully beside the adapters is as trained.
    """
    adapted = [path for path, module in outer_modules(model) if isinstance(module, LoRALinear)]
    state = dict(model.state_dict())
    for path in adapted:
        prefix = f"{path}." if path else ""
        for name in ("lora_A", "lora_B"):
            state.pop(prefix + name, None)
        for name in ("weight", "bias"):
            if prefix + "original_linear." + name in state:
                state[prefix + name] = state.pop(prefix + "original_linear." + name)
    return state
