"""Walking over a model: its adapted layers, and every module that is not inside one."""

from collections.abc import Iterator

from torch import nn

from sam3d_objects.model.lora.layer import LoRALayer


def outer_modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield (path, module) of every module at each of its paths, but nothing inside adapted layers.

    An adapted attention's `out_proj` is a layer of its own and not inside.
    """
    inside: set[str] = set()
    for path, module in model.named_modules(remove_duplicate=False):  # Parents come before their children.
        if path in inside or path.rpartition(".")[0] in inside:
            inside.add(path)
            continue
        if isinstance(module, LoRALayer):
            inside.update(f"{path}.{child}".lstrip(".") for child in (module.base_name, "adapters") if child)
        yield path, module


def lora_layers(model: nn.Module) -> dict[str, LoRALayer]:
    """Return the adapted layers by path (the first path of a layer that has several)."""
    return {path: module for path, module in model.named_modules() if isinstance(module, LoRALayer)}


def has_lora(model: nn.Module) -> bool:
    """Return whether any layer of the model is adapted."""
    return any(isinstance(module, LoRALayer) for module in model.modules())


def active_adapters(model: nn.Module) -> dict[str, float]:
    """Return the adapters in use with the factor of each; empty: the model behaves as its base does."""
    return {name: weight for layer in lora_layers(model).values() for name, weight in layer.active.items()}


def replace_module(model: nn.Module, path: str, module: nn.Module) -> None:
    """Put a module at a path inside the model (not at the root) in place of what is there."""
    parent, _, leaf = path.rpartition(".")
    setattr(model.get_submodule(parent), leaf, module)


def places_of(model: nn.Module) -> dict[int, list[str]]:
    """Return every path of each module, by the module's id."""
    places: dict[int, list[str]] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        places.setdefault(id(module), []).append(path)
    return places
