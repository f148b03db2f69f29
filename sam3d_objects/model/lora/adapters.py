"""Several adapters on one model: which there are, which are in use, and sums of them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn

from sam3d_objects.files import nearest
from sam3d_objects.model.lora.beside import drop_beside, mix_beside, switch_beside
from sam3d_objects.model.lora.layer import LoRALayer
from sam3d_objects.model.lora.merging import check_not_merged
from sam3d_objects.model.lora.options import LayerOptions, check_adapter_name
from sam3d_objects.model.lora.walk import active_adapters, lora_layers, places_of, replace_module


def adapter_names(model: nn.Module) -> list[str]:
    """Return the names of the adapters that a model has, in the order in which its layers got them."""
    return list(dict.fromkeys(name for layer in lora_layers(model).values() for name in layer.options))


def use_adapter(
    model: nn.Module, which: str | Mapping[str, float], *, before: Mapping[str, float] | None = None
) -> None:
    """Put one adapter in use, or several with a factor each, without touching the base.

    What was trained fully beside an adapter (heads) is exchanged with it; of several in use, the heads are the base's
    plus the weighted differences, and frozen. Adapters that are in use may train, the others are frozen.

    Args:
        model: with adapters.
        which: a name, or name -> factor; an empty mapping is the base, its heads included.
        before: what was in use, where layers have changed already; by default what is.

    Raises:
        ValueError: the model has no adapter of this name (the error names those that it has), it is merged, or what a
            head was before training is not known. Nothing is changed then.
    """
    check_not_merged(model)
    weights = {which: 1.0} if isinstance(which, str) else {name: float(weight) for name, weight in which.items()}
    _check_names(model, weights)
    switch_beside(model, active_adapters(model) if before is None else dict(before), weights)
    for layer in lora_layers(model).values():
        layer.use(weights)


@contextmanager
def using_adapter(model: nn.Module, which: str | Mapping[str, float]) -> Iterator[None]:
    """Use other adapters within the block (see `use_adapter`), and what was in use afterwards."""
    before = active_adapters(model)
    use_adapter(model, which)
    try:
        yield
    finally:
        use_adapter(model, before)


def delete_adapter(model: nn.Module, name: str) -> int:
    """Remove an adapter; layers that have no other become plain again, and an adapter in use is put out of it first.

    Returns:
        The number of layers that had it.

    Raises:
        ValueError: the model has no adapter of this name, or it is merged.
    """
    _check_names(model, {name: 1.0})
    active = active_adapters(model)
    if name in active:
        use_adapter(model, {other: weight for other, weight in active.items() if other != name})
    drop_beside(model, name)
    places, count = places_of(model), 0
    for layer in lora_layers(model).values():
        if name not in layer.options:
            continue
        layer.delete_adapter(name)
        count += 1
        plain = layer.unadapted() if not layer.options else layer
        for place in places[id(layer)] if plain is not layer else ():
            replace_module(model, place, plain)
    return count


def combine_adapters(model: nn.Module, weights: Mapping[str, float], name: str) -> int:
    """Make a new adapter whose update is the weighted sum of others', exactly; what is in use stays.

    Matrices are put side by side, so that the rank is the sum of the ranks: averaging A and B each for themselves would
    not average their products. Heads become the base's plus the weighted differences.

    Args:
        model: with the adapters that are named.
        weights: adapter -> factor.
        name: of the new adapter.

    Returns:
        The number of layers that have it.

    Raises:
        ValueError: no adapters, an unknown one, a name that is taken, or one with DoRA, whose update has no low rank.
    """
    check_not_merged(model)
    check_adapter_name(name)
    _check_names(model, weights)
    if not weights or name in adapter_names(model):
        raise ValueError(f"a sum needs adapters and a new name; got {dict(weights)} and {name!r}")
    layers = {path: layer for path, layer in lora_layers(model).items() if not weights.keys().isdisjoint(layer.options)}
    for path, layer in layers.items():
        if any(layer.options[other].dora for other in weights if other in layer.options):
            raise ValueError(f"{path} has DoRA: its update has no low rank to be summed (use several at once instead)")
    mix_beside(model, dict(weights), name)
    for layer in layers.values():
        _add_sum(layer, weights, name)
    return len(layers)


def _add_sum(layer: LoRALayer, weights: Mapping[str, float], name: str) -> None:
    with torch.no_grad():
        pieces = [p for other, w in weights.items() if other in layer.options for p in layer.pieces_of(other, w)]
        down = torch.cat([piece.down for piece in pieces])
        up = torch.cat([piece.scale * piece.up for piece in pieces], dim=1)
        before = dict(layer.active)
        layer.add_adapter(name, LayerOptions(rank=len(down), alpha=float(len(down))), draw=False)
        tensors = layer.tensors_of(name)
        tensors["lora_A"].copy_(down)
        tensors["lora_B"].copy_(up.view(tensors["lora_B"].shape))
        layer.use(before)


def set_lora_enabled(model: nn.Module, enabled: bool) -> None:
    """Switch every adapter of the model on or off; off, the adapted layers behave as their bases do."""
    for layer in lora_layers(model).values():
        layer.enabled = enabled


@contextmanager
def lora_disabled(model: nn.Module) -> Iterator[None]:
    """Switch every adapter off within the block, and back to what it was. Fully trained heads stay.

    `using_adapter(model, {})` brings back the base's heads too.
    """
    before = {layer: layer.enabled for layer in lora_layers(model).values()}
    set_lora_enabled(model, False)
    try:
        yield
    finally:
        for layer, enabled in before.items():
            layer.enabled = enabled


def _check_names(model: nn.Module, names: Mapping[str, float]) -> None:
    known = adapter_names(model)
    for name in names:
        if name not in known:
            have = f"has the adapters {', '.join(known)}" if known else "has no adapter"
            raise ValueError(f"the model {have}, not {name!r}.{nearest(name, known)}")
