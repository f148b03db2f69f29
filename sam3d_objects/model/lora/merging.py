"""Fold adapters into the weights, and take them out again exactly; what results holds no trace of LoRA."""

import copy

from torch import Tensor, nn

from sam3d_objects.model.lora.frame import LEAVES
from sam3d_objects.model.lora.layer import LoRALayer
from sam3d_objects.model.lora.paths import collapse_paths
from sam3d_objects.model.lora.walk import outer_modules, places_of, replace_module

# On each merged layer: the adapted layer that it stands for, or None where that was not kept. In a tuple, so that torch
# does not take it for a part of the model.
_MARK = "_lora_merged"


def merge_lora_weights(model: nn.Module, *, keep: bool = False) -> int:
    """Replace every adapted layer, in place, by a plain one with the update of the adapters in use added to its weight.

    The sums are taken in float32 and cast to the base's dtype. Requires-grad flags stay as they were (merged
    layers are frozen); the names of the state dict are those of the base again.

    Args:
        model: with adapters.
        keep: keep the adapted layers with their base, outside of the state dict, for `unmerge_lora_weights`; the
            memory of the adapted weights is needed twice then.

    Returns:
        The number of layers merged.

    Raises:
        ValueError: the model has no adapter, is itself an adapted layer (`LoRALinear.merge_weights` returns
            the merged one), or an adapter is disabled. Nothing is changed then.
    """
    if isinstance(model, LoRALayer):
        raise ValueError("a single adapted layer can't be replaced in place: use its merge_weights()")
    check_not_merged(model)
    layers = [(path, module) for path, module in outer_modules(model) if isinstance(module, LoRALayer)]
    if not layers:
        raise ValueError("the model has no adapter to merge: load one first (or it is merged already)")
    off = [path for path, layer in layers if not layer.enabled]
    if off:
        raise ValueError(f"disabled adapters are not merged; enable or remove {', '.join(off[:8])}")
    if not any(layer.active for _, layer in layers):
        raise ValueError("no adapter is in use, so that merging would change nothing: choose one with use_adapter")
    places, merged = places_of(model), set()
    # An attention's own projection before the attention, which takes it along.
    for _, layer in sorted(layers, key=lambda place: -place[0].count(".")):
        if id(layer) in merged:
            continue
        merged.add(id(layer))
        plain = layer.merge_weights()
        plain.__dict__[_MARK] = (layer if keep else None,)
        for place in places[id(layer)]:
            replace_module(model, place, plain)
    return len(merged)


def unmerge_lora_weights(model: nn.Module) -> int:
    """Bring back the adapted layers, base weights and adapters bit for bit, as they were before `merge_lora_weights`.

    What happened to merged weights since is dropped.

    Returns:
        The number of layers that are adapted again.

    Raises:
        ValueError: the model is not merged, or was merged without `keep`: a subtraction would round. Nothing is changed
            then.
    """
    merged = {path: vars(module)[_MARK][0] for path, module in model.named_modules() if _MARK in vars(module)}
    if not merged:
        raise ValueError("the model is not merged: there is nothing to take out of it")
    lost = [path for path, layer in merged.items() if layer is None]
    if lost:
        raise ValueError(
            f"the base of {', '.join(collapse_paths(lost)[:4])} was not kept, and subtracting would not give it back "
            "exactly: merge with keep=True, or load the base again"
        )
    places = places_of(model)
    for path in sorted(merged, key=lambda path: path.count(".")):
        plain = model.get_submodule(path)
        layer = vars(plain)[_MARK][0].to(next(plain.parameters()).device).train(plain.training)
        # An attention that came back brought its own projection along.
        for place in places.get(id(plain)) or places_of(model)[id(plain)]:
            replace_module(model, place, layer)
    return len(merged)


def merged_model(model: nn.Module) -> nn.Module:
    """Return a deep copy with the adapters merged (see `merge_lora_weights`); the model stays as it is."""
    if isinstance(model, LoRALayer):
        return model.merge_weights()
    merged = copy.deepcopy(model)
    merge_lora_weights(merged)
    return merged


def check_not_merged(model: nn.Module) -> None:
    """Raise ValueError, naming layers, where adapters of the model are merged into its weights."""
    merged = [path for path, module in model.named_modules() if _MARK in vars(module)]
    if merged:
        raise ValueError(
            f"the model is merged already ({', '.join(collapse_paths(merged)[:4])}): an adapter trained on it would "
            "fit no other copy of the base; unmerge it, or load the base again"
        )


def base_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """Return the model's state dict under the names that it had before injection, without the adapters.

    Values are the model's own tensors. What trains fully beside the adapters is as trained.
    """
    adapted = [(path, module) for path, module in outer_modules(model) if isinstance(module, LoRALayer)]
    state = dict(model.state_dict())
    for path, layer in adapted:
        prefix = f"{path}." if path else ""
        own = [name for name in state if name.startswith(prefix)]
        for name in own:
            short = name.removeprefix(prefix)
            if short in LEAVES or short.startswith("adapters."):
                del state[name]
            elif (base := layer.base_leaf(short)) != short:
                state[prefix + base] = state.pop(name)
    return state
