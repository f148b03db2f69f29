"""What may move in training: adapters, and what is named beside them."""

from collections.abc import Iterable

from torch import nn

from sam3d_objects.model.lora.beside import note_beside
from sam3d_objects.model.lora.frame import LEAVES
from sam3d_objects.model.lora.layer import LoRALayer
from sam3d_objects.model.lora.paths import collapse_paths
from sam3d_objects.model.lora.targets import no_match_message, path_test
from sam3d_objects.model.lora.walk import has_lora, lora_layers, outer_modules


def freeze_base_params(model: nn.Module) -> tuple[int, int]:
    """Make the adapters in use trainable and everything else frozen, heads that were unfrozen included.

    Returns:
        The numbers of frozen and of trainable parameters (elements); a shared one counts once.
    """
    adapters = {id(p) for p in get_lora_params(model)}
    frozen = trainable = 0
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in adapters)
        if parameter.requires_grad:
            trainable += parameter.numel()
        else:
            frozen += parameter.numel()
    return frozen, trainable


def get_lora_params(model: nn.Module) -> list[nn.Parameter]:
    """Return the A and B matrices (with DoRA, the magnitudes) of the adapters in use, in the model's order."""
    return [p for layer in lora_layers(model).values() for name in layer.active for p in layer.parameters_of(name)]


def trainable_names(model: nn.Module) -> list[str]:
    """Return the names of the parameters that may move: adapters and what was unfrozen."""
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad]


def adapter_parameter_names(model: nn.Module) -> set[str]:
    """Return the names of the parameters that belong to adapters, in use or not."""
    return {
        f"{path}.{name}".lstrip(".")
        for path, layer in lora_layers(model).items()
        for name, _ in layer.named_parameters()
        if name in LEAVES or name.startswith("adapters.")
    }


def trained_fully(model: nn.Module) -> tuple[list[str], list[str]]:
    """Return what trains beside the adapters: modules all of whose parameters do, and single parameters.

    Of nested modules the outermost is named; a parameter is named where its module also holds frozen ones.
    """
    names = set(trainable_names(model)) - adapter_parameter_names(model)
    modules: list[str] = []
    # Parents come before their children, so the outermost module takes its parameters first.
    for path, module in model.named_modules():
        own = [f"{path}.{name}" for name, _ in module.named_parameters()]
        if path and own and names.issuperset(own):
            modules.append(path)
            names.difference_update(own)
    return modules, [name for name in trainable_names(model) if name in names]


def count_parameters(model: nn.Module) -> dict[str, int]:
    """Count parameters (elements; shared ones once; works on the meta device).

    Returns:
        `total`: all, adapters included; `trainable`: those that may move; `lora`: those of adapters, in use or not.
    """
    parameters = list(model.parameters())
    lora = {id(p): p.numel() for x in lora_layers(model).values() for name in x.options for p in x.parameters_of(name)}
    return {
        "total": sum(p.numel() for p in parameters),
        "trainable": sum(p.numel() for p in parameters if p.requires_grad),
        "lora": sum(lora.values()),
    }


def unfreeze(model: nn.Module, patterns: str | Iterable[str], strict: bool = True) -> int:
    """Let modules (with all that is in them) or single parameters train fully; they are saved with the
    adapter.

    Args:
        model: with its adapters already injected.
        patterns: globs or regular expressions of the full paths of modules or parameters.
        strict: a pattern that matches nothing with parameters is an error.

    Returns:
        The number of parameters (elements) that are unfrozen now and were not before.

    Raises:
        ValueError: a pattern matches nothing (named, with the nearest paths), or an adapted layer, whose
            weight is meant to stay.
    """
    chosen: dict[str, nn.Parameter] = {}
    for pattern in [patterns] if isinstance(patterns, str) else list(patterns):
        found = _matching_parameters(model, pattern)
        if not found and strict:
            places = sorted({name.rpartition(".")[0] for name, _ in model.named_parameters()} - {""})
            raise ValueError(no_match_message(pattern, [], places, "module or parameter"))
        chosen |= found
    adapted = _inside_adapters(model)
    clash = sorted({adapted[name] for name in chosen if name in adapted})
    if clash:
        raise ValueError(f"a layer with an adapter can't train fully: {', '.join(collapse_paths(clash))}")
    fresh = {id(p): p for p in chosen.values() if not p.requires_grad}
    for parameter in fresh.values():
        parameter.requires_grad_(True)
    if has_lora(model):
        note_beside(model)
    return sum(p.numel() for p in fresh.values())


def _matching_parameters(model: nn.Module, pattern: str) -> dict[str, nn.Parameter]:
    """Return the parameters, by name, that a pattern matches themselves or through a module around them."""
    test = path_test(pattern)
    found = {}
    for path, module in outer_modules(model):
        if path and test(path):
            found.update({f"{path}.{name}": p for name, p in module.named_parameters()})
    found.update({name: p for name, p in model.named_parameters() if test(name)})
    return found


def _inside_adapters(model: nn.Module) -> dict[str, str]:
    """Return the path of the adapted layer for the name of each parameter inside one, its base's included."""
    outer = dict(outer_modules(model))
    inside = {}
    for name, _ in model.named_parameters():
        owner = name.rpartition(".")[0]
        while owner not in outer:  # What holds it is hidden in an adapted layer further out.
            owner = owner.rpartition(".")[0]
        if isinstance(outer[owner], LoRALayer):
            inside[name] = owner
    return inside


def norms_of_adapted_blocks(model: nn.Module) -> list[str]:
    """Return the paths of the normalisation layers with parameters in the blocks that hold an adapter.

    A block is everything under the last numbered part of an adapted layer's path (`blocks.3`), or the layer's
    parent where no part is a number. A norm is a module whose class is named so (LayerNorm, GroupNorm,
    RMSNorm, ...).
    """
    blocks = tuple({_block(path) for path in lora_layers(model)})
    return [
        path
        for path, module in model.named_modules()
        if "norm" in type(module).__name__.lower()
        and any(True for _ in module.parameters())
        and any(path.startswith(block) for block in blocks)
    ]


def _block(path: str) -> str:
    parts = path.split(".")
    numbered = [i for i, part in enumerate(parts[:-1]) if part.isdigit()]
    end = numbered[-1] + 1 if numbered else len(parts) - 1
    return "".join(f"{part}." for part in parts[:end])
