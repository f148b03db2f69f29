"""What trains fully beside adapters (heads, norms): each adapter has its own, and the base has none.

A head can hold one adapter's values at a time. So its values before training are kept when it is unfrozen, and when
another adapter is put in use those of the former are kept as well. Nothing is kept where nothing is unfrozen.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from sam3d_objects.model.lora.frame import LEAVES
from sam3d_objects.model.lora.paths import collapse_paths
from sam3d_objects.model.lora.walk import active_adapters, lora_layers

_KEY = "_lora_beside"


@dataclass
class _Store:
    """Values by tensor name, on the tensors' devices: the base's, and those of adapters that are not in use."""

    base: dict[str, Tensor] = field(default_factory=dict)
    own: dict[str, dict[str, Tensor]] = field(default_factory=dict)


def beside_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return by name the parameters that train fully, and the saved buffers of the modules that own them."""
    adapters = {id(p) for x in lora_layers(model).values() for name in x.options for p in x.parameters_of(name)}
    tensors: dict[str, Tensor] = {
        name: p for name, p in model.named_parameters() if p.requires_grad and id(p) not in adapters
    }
    for owner in dict.fromkeys(name.rpartition(".")[0] for name in tensors):
        module = model.get_submodule(owner)
        # Only what a state dict holds: buffers that are not persistent are rebuilt, not saved.
        saved = module.state_dict(keep_vars=True)
        for leaf, buffer in module.named_buffers(recurse=False):
            if leaf in saved and leaf not in LEAVES:
                tensors[f"{owner}.{leaf}".lstrip(".")] = buffer
    return tensors


def note_beside(model: nn.Module) -> None:
    """Keep the values, as the base's, of what trains fully and was not kept before: call it before training."""
    known = known_tensors(model)
    fresh = {name: tensor.detach().clone() for name, tensor in beside_tensors(model).items() if id(tensor) not in known}
    if fresh:
        model.__dict__.setdefault(_KEY, _Store()).base.update(fresh)


def check_known(model: nn.Module) -> None:
    """Raise ValueError unless the base's values of everything that trains fully are kept."""
    known = known_tensors(model)
    unknown = [name for name, tensor in beside_tensors(model).items() if id(tensor) not in known]
    if unknown:
        raise ValueError(
            f"what these were before training is not known, so that adapters can't be exchanged: "
            f"{', '.join(collapse_paths(unknown))}; let them train by `unfreeze`"
        )


def switch_beside(model: nn.Module, before: Mapping[str, float], after: Mapping[str, float]) -> None:
    """Keep what trained beside the adapter in use, and put in place what goes with those used next.

    Args:
        model: with adapters.
        before, after: adapter -> factor.

    Raises:
        ValueError: see `check_known`; nothing is changed then.
    """
    if dict(before) == dict(after):
        return
    if before:
        check_known(model)
    for _, module, store in _stores(model):
        if (single := _single(before)) is not None:
            store.own[single] = {name: tensor.detach().clone() for name, tensor in beside_tensors(module).items()}
        chosen = _single(after)
        values = store.own.get(chosen, {}) if chosen is not None else _mixed(store, after)
        with torch.no_grad():
            for name, tensor in _named(module, store.base).items():
                tensor.copy_(values.get(name, store.base[name]))
                if isinstance(tensor, nn.Parameter):
                    tensor.requires_grad_(chosen is not None and name in values)


def mix_beside(model: nn.Module, weights: Mapping[str, float], name: str) -> None:
    """Keep, for a new adapter, the base's values plus the weighted differences of others'."""
    check_known(model)
    active = active_adapters(model)
    for _, module, store in _stores(model):
        if (single := _single(active)) is not None:
            store.own[single] = {key: tensor.detach().clone() for key, tensor in beside_tensors(module).items()}
        if mixed := _mixed(store, weights):
            store.own[name] = mixed


def drop_beside(model: nn.Module, name: str) -> None:
    """Forget what was trained beside an adapter."""
    for _, _, store in _stores(model):
        store.own.pop(name, None)


def beside_of(model: nn.Module, adapter: str, active: Mapping[str, float]) -> dict[str, Tensor]:
    """Return by name what was trained fully beside an adapter: in the model if it is in use, else what is kept."""
    if not active or _single(active) == adapter:
        in_model = beside_tensors(model)
        if in_model or active:
            return in_model
    return {
        f"{path}.{name}".lstrip("."): tensor
        for path, _, store in _stores(model)
        for name, tensor in store.own.get(adapter, {}).items()
    }


def _single(weights: Mapping[str, float]) -> str | None:
    """Return the adapter that is in use alone and whole, if one is."""
    return next(iter(weights)) if list(weights.values()) == [1.0] else None


def _mixed(store: _Store, weights: Mapping[str, float]) -> dict[str, Tensor]:
    """Return base + sum of factor * (own - base) of the floating-point tensors that any of the adapters trained."""
    names = dict.fromkeys(name for adapter in weights for name in store.own.get(adapter, {}))
    mixed = {}
    for name in names:
        base = store.base[name]
        if not base.is_floating_point():
            continue
        total = base.clone()
        for adapter, weight in weights.items():
            if name in store.own.get(adapter, {}):
                total += weight * (store.own[adapter][name].to(base) - base)
        mixed[name] = total
    return mixed


def _stores(model: nn.Module) -> Iterator[tuple[str, nn.Module, _Store]]:
    for path, module in model.named_modules():
        if _KEY in vars(module):
            yield path, module, vars(module)[_KEY]


def _named(module: nn.Module, names: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the module's own tensors of these names."""
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return {name: tensors[name] for name in names if name in tensors}


def known_tensors(model: nn.Module) -> set[int]:
    """Return the ids of the model's tensors whose values before training are kept."""
    return {id(tensor) for _, module, store in _stores(model) for tensor in _named(module, store.base).values()}
