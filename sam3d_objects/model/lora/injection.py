"""Put adapters into a model: decide on everything first, then change it, so that an error changes nothing."""

import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from sam3d_objects.model.lora.config import LayerOptions
from sam3d_objects.model.lora.layers import LoRALinear
from sam3d_objects.model.lora.paths import nearest_paths
from sam3d_objects.model.lora.targets import DEFAULT_TARGETS, Targets, as_tests, no_match_message


def inject_lora(
    model: nn.Module,
    target_modules: Targets | None = None,
    rank: int = 4,
    alpha: float = 8.0,
    dropout: float = 0.0,
    *,
    patterns: Mapping[str, Mapping[str, Any]] | None = None,
    strict: bool = True,
    seed: int | None = None,
    generator: torch.Generator | None = None,
) -> int:
    """Replace linear layers of a model by adapted ones, in place, and freeze the base.

    The first injection freezes every other parameter of the model (what else shall train is named to
    `unfreeze` afterwards); later ones freeze only the layers that they adapt. Non-linear modules that a
    pattern matches beside linear ones are passed over. A layer that sits at several paths is adapted once,
    for all of them.

    Args:
        model: any module; targets are paths inside it, as `named_modules` gives them.
        target_modules: globs or regular expressions of full dotted paths (see `targets.path_test`), or one
            callback (path, module) -> bool. Default: every attention projection (`DEFAULT_TARGETS`), or, if
            `patterns` are given, what these match.
        rank, alpha, dropout: of every layer that `patterns` does not say otherwise for.
        patterns: pattern -> {"rank": ..., "alpha": ..., "dropout": ...}, any of the three. What it matches is
            adapted too; where several match, the last one wins.
        strict: a pattern that finds no linear layer is an error; else a warning, and it adds nothing.
        seed, generator: source of the A matrices (at most one of them); default: torch's global generator.

    Returns:
        The number of layers adapted, 0 only if not `strict`.

    Raises:
        ValueError: a pattern without a linear layer (named, with the nearest paths), a layer that is already
            adapted or trained fully, the model itself instead of something in it, or an option out of range.
    """
    plan = plan_injection(model, target_modules, LayerOptions(rank, alpha, dropout), patterns or {}, strict)
    return inject_planned(model, plan, _generator(seed, generator))


def plan_injection(
    model: nn.Module,
    target_modules: Targets | None,
    options: LayerOptions,
    patterns: Mapping[str, Mapping[str, Any]],
    strict: bool = True,
) -> dict[str, LayerOptions]:
    """Return path -> options of each layer that `inject_lora` would adapt, without touching the model."""
    plan: dict[str, LayerOptions] = {}
    if target_modules is not None or not patterns:
        for text, test in as_tests(DEFAULT_TARGETS if target_modules is None else target_modules).items():
            plan |= dict.fromkeys(_linear_paths(model, text, test, strict), options)
    for pattern, changes in patterns.items():
        for text, test in as_tests(pattern).items():
            plan |= dict.fromkeys(_linear_paths(model, text, test, strict), options.changed(pattern, changes))
    return plan


def inject_planned(model: nn.Module, plan: Mapping[str, LayerOptions], generator: torch.Generator | None = None) -> int:
    """Adapt exactly the layers of a plan (path -> options), in place; it refuses what `inject_lora` does."""
    modules = dict(model.named_modules(remove_duplicate=False))
    places: dict[int, list[str]] = {}
    for path, module in modules.items():
        places.setdefault(id(module), []).append(path)
    first = not has_lora(model)
    check_plan(model, plan)
    # Later injections must not freeze again what was unfrozen between.
    if first and plan:
        model.requires_grad_(False)
    done: set[int] = set()  # A layer at several paths may be planned at each of them.
    for path, options in plan.items():
        linear = modules[path]
        if id(linear) in done:
            continue
        done.add(id(linear))
        assert isinstance(linear, nn.Linear)
        adapted = LoRALinear(linear, options.rank, options.alpha, options.dropout, generator=generator)
        for place in places[id(linear)]:
            replace_module(model, place, adapted)
    return len(done)


def _linear_paths(model: nn.Module, text: str, test: Any, strict: bool) -> list[str]:
    """Return the paths that a test finds; linear and adapted layers count, others are named in the error."""
    found, others, candidates = [], [], []
    for path, module in outer_modules(model):
        usable = isinstance(module, nn.Linear | LoRALinear) and path != ""
        if usable:
            candidates.append(path)
        if path and test(path, module):
            if usable:
                found.append(path)
            else:
                others.append(type(module).__name__)
    if not found:
        message = no_match_message(text, others, candidates, "nn.Linear")
        if strict:
            raise ValueError(message)
        warnings.warn(message, stacklevel=4)
    return found


def check_plan(model: nn.Module, plan: Iterable[str]) -> None:
    """Raise ValueError, naming the path, unless each path of a plan holds a layer that can be adapted."""
    modules = dict(model.named_modules(remove_duplicate=False))
    first = not has_lora(model)
    for path in plan:
        _check_adaptable(path, modules, first)


def _check_adaptable(path: str, modules: Mapping[str, nn.Module], first: bool) -> None:
    module = modules.get(path)
    if path == "":
        raise ValueError("the model itself can't be replaced in place: wrap it in LoRALinear yourself")
    if isinstance(module, LoRALinear):
        raise ValueError(f"{path} already has an adapter: merge it first, or leave it out of the targets")
    if not isinstance(module, nn.Linear):
        kind = f"a {type(module).__name__}" if module else "no such module"
        near = ", ".join(nearest_paths(path, [p for p, m in modules.items() if isinstance(m, nn.Linear)]))
        raise ValueError(f"{path}: an adapter needs an nn.Linear, the model has {kind}; nearest: {near}")
    if not first and any(p.requires_grad for p in module.parameters()):
        raise ValueError(f"{path} is trained fully: it can't have an adapter as well")


def _generator(seed: int | None, generator: torch.Generator | None) -> torch.Generator | None:
    if seed is None:
        return generator
    if generator is not None:
        raise ValueError("give a seed or a generator, not both")
    return torch.Generator().manual_seed(seed)


def outer_modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield (path, module) of every module at each of its paths, but nothing inside adapted layers."""
    modules = dict(model.named_modules(remove_duplicate=False))
    for path, module in modules.items():
        parent = path.rpartition(".")[0]
        if path == "" or not isinstance(modules[parent], LoRALinear):
            yield path, module


def lora_layers(model: nn.Module) -> dict[str, LoRALinear]:
    """Return the adapted layers by path (the first path of a layer that has several)."""
    return {path: module for path, module in model.named_modules() if isinstance(module, LoRALinear)}


def has_lora(model: nn.Module) -> bool:
    """Return whether any layer of the model is adapted."""
    return any(isinstance(module, LoRALinear) for module in model.modules())


def replace_module(model: nn.Module, path: str, module: nn.Module) -> None:
    """Put a module at a path inside the model (not at the root) in place of what is there."""
    parent, _, leaf = path.rpartition(".")
    setattr(model.get_submodule(parent), leaf, module)


def set_lora_enabled(model: nn.Module, enabled: bool) -> None:
    """Switch every adapter of the model on or off; off, the adapted layers behave as their bases do."""
    for layer in lora_layers(model).values():
        layer.enabled = enabled


@contextmanager
def lora_disabled(model: nn.Module) -> Iterator[None]:
    """Switch every adapter off within the block, and back to what it was. Fully trained heads stay."""
    before = {layer: layer.enabled for layer in lora_layers(model).values()}
    set_lora_enabled(model, False)
    try:
        yield
    finally:
        for layer, enabled in before.items():
            layer.enabled = enabled
