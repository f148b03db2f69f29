"""Put adapters into a model: decide on everything first, then change it, so that an error changes nothing."""

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from sam3d_objects.model.lora.adapters import use_adapter
from sam3d_objects.model.lora.beside import check_known, known_tensors
from sam3d_objects.model.lora.kinds import KINDS_TEXT, adapted, can_adapt
from sam3d_objects.model.lora.layer import LoRALayer
from sam3d_objects.model.lora.merging import check_not_merged
from sam3d_objects.model.lora.options import DEFAULT_ADAPTER, LayerOptions, check_adapter_name
from sam3d_objects.model.lora.paths import nearest_paths
from sam3d_objects.model.lora.reference import remember
from sam3d_objects.model.lora.targets import DEFAULT_TARGETS, ModuleTest, Targets, as_tests, no_match_message
from sam3d_objects.model.lora.walk import active_adapters, has_lora, outer_modules, places_of, replace_module


def inject_lora(
    model: nn.Module,
    target_modules: Targets | None = None,
    rank: int = 4,
    alpha: float = 8.0,
    dropout: float = 0.0,
    *,
    rslora: bool = False,
    init: str = "kaiming",
    dora: bool = False,
    parts: str = "",
    patterns: Mapping[str, Mapping[str, Any]] | None = None,
    adapter: str = DEFAULT_ADAPTER,
    strict: bool = True,
    seed: int | None = None,
    generator: torch.Generator | None = None,
) -> int:
    """Replace layers of a model by adapted ones, in place, and freeze the base.

    Linear layers, convolutions (1 to 3 axes), embeddings, the packed projection of nn.MultiheadAttention and the
    sparse layers of our networks can be adapted; other modules that a pattern matches beside them are passed over. The
    first injection freezes every other parameter of the model (what else shall train is named to `unfreeze`
    afterwards); later ones freeze only the layers that they adapt. A layer that sits at several paths is adapted once,
    for all of them. A further adapter, under another name, is the one in use afterwards and the others are frozen.

    Args:
        model: any module; targets are paths inside it, as `named_modules` gives them.
        target_modules: globs or regular expressions of full dotted paths (see `targets.path_test`), or one
            callback (path, module) -> bool. Default: every attention projection (`DEFAULT_TARGETS`), or, if
            `patterns` are given, what these match.
        rank, alpha, dropout, rslora, init, dora, parts: of every layer that `patterns` does not say otherwise for
            (see `LayerOptions`).
        patterns: pattern -> some of these options, as a mapping. What it matches is
            adapted too; where several match, the last one wins.
        adapter: name of the adapter.
        strict: a pattern that finds no layer to adapt is an error; else a warning, and it adds nothing.
        seed, generator: source of the A matrices (at most one of them); default: torch's global generator.

    Returns:
        The number of layers adapted, 0 only if not `strict`.

    Raises:
        ValueError: a pattern without such a layer (named, with the nearest paths), a layer that already has this
            adapter or is trained fully, the model itself instead of something in it, an option out of range or not for
            this kind of layer, or a model whose adapters are merged. Nothing is changed then.
    """
    options = LayerOptions(rank, alpha, dropout, rslora, init, dora, parts)
    plan = plan_injection(model, target_modules, options, patterns or {}, strict)
    return inject_planned(model, plan, _generator(seed, generator), adapter)


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
            plan |= dict.fromkeys(_adaptable_paths(model, text, test, strict), options)
    for pattern, changes in patterns.items():
        for text, test in as_tests(pattern).items():
            plan |= dict.fromkeys(_adaptable_paths(model, text, test, strict), options.changed(pattern, changes))
    return plan


def inject_planned(
    model: nn.Module,
    plan: Mapping[str, LayerOptions],
    generator: torch.Generator | None = None,
    adapter: str = DEFAULT_ADAPTER,
    draw: bool = True,
) -> int:
    """Adapt exactly the layers of a plan (path -> options), in place; it refuses what `inject_lora` does.

    Args:
        model: any module.
        plan: path -> options.
        generator: on the CPU; torch's global one by default.
        adapter: name of the adapter.
        draw: False leaves the matrices zero, to be loaded.
    """
    check_plan(model, plan, adapter)
    before = active_adapters(model)
    if before and adapter not in before:
        check_known(model)
    first = not has_lora(model)
    fresh = _adapted_layers(model, plan, generator, adapter, draw)
    # Later injections must not freeze again what was unfrozen between.
    if first and fresh:
        model.requires_grad_(False)
    places = places_of(model)
    for path in sorted(fresh, key=lambda path: path.count(".")):  # An attention before its own projection.
        for place in places[id(model.get_submodule(path))]:
            replace_module(model, place, fresh[path])
    if adapter in before:
        for layer in fresh.values():
            layer.use(before)
    elif fresh:
        use_adapter(model, adapter, before=before)
    remember(model)
    return len(fresh)


def _adapted_layers(
    model: nn.Module, plan: Mapping[str, LayerOptions], generator: torch.Generator | None, adapter: str, draw: bool
) -> dict[str, LoRALayer]:
    """Return the adapted layer for each path of a plan, one for all paths of a layer; an error changes nothing."""
    flags = {parameter: parameter.requires_grad for parameter in model.parameters()}
    made: dict[int, LoRALayer] = {}
    fresh: dict[str, LoRALayer] = {}
    extended: list[tuple[LoRALayer, dict[str, float]]] = []
    for path, options in plan.items():
        module = model.get_submodule(path)
        if id(module) in made:  # A layer at several paths may be planned at each of them.
            continue
        try:
            if isinstance(module, LoRALayer):
                active = dict(module.active)
                module.add_adapter(adapter, options, generator, draw)
                extended.append((module, active))
                made[id(module)] = module
            else:
                made[id(module)] = adapted(module, options, adapter, generator, draw)
        except ValueError as error:
            for layer, active in extended:
                layer.delete_adapter(adapter)
                layer.use(active)
            for parameter, flag in flags.items():
                parameter.requires_grad_(flag)
            raise ValueError(f"{path}: {error}") from error
        fresh[path] = made[id(module)]
    return fresh


def _adaptable_paths(model: nn.Module, text: str, test: ModuleTest, strict: bool) -> list[str]:
    """Return the paths that a test finds; what can be or is adapted counts, others are named in the error."""
    found, others, candidates = [], [], []
    for path, module in outer_modules(model):
        usable = path != "" and (can_adapt(module) or isinstance(module, LoRALayer))
        if usable:
            candidates.append(path)
        if path and test(path, module):
            if usable:
                found.append(path)
            else:
                others.append(type(module).__name__)
    if not found:
        message = no_match_message(text, others, candidates, KINDS_TEXT)
        if strict:
            raise ValueError(message)
        warnings.warn(message, stacklevel=4)
    return found


def check_plan(model: nn.Module, plan: Iterable[str], adapter: str = DEFAULT_ADAPTER) -> None:
    """Raise ValueError, naming the path, unless each path of a plan holds a layer that can get this adapter."""
    check_adapter_name(adapter)
    check_not_merged(model)
    modules = dict(model.named_modules(remove_duplicate=False))
    first, kept = not has_lora(model), known_tensors(model)
    for path in plan:
        _check_adaptable(path, modules, adapter)
        module = modules[path]
        own = list(module.parameters(recurse=not isinstance(module, nn.MultiheadAttention)))
        fully = any(id(p) in kept or (p.requires_grad and not first) for p in own)
        if fully and not isinstance(module, LoRALayer):
            raise ValueError(f"{path} is trained fully: it can't have an adapter as well")


def _check_adaptable(path: str, modules: Mapping[str, nn.Module], adapter: str) -> None:
    module = modules.get(path)
    if path == "":
        raise ValueError("the model itself can't be replaced in place: wrap it in LoRALinear yourself")
    if isinstance(module, LoRALayer):
        if adapter in module.options:
            named = "an adapter" if adapter == DEFAULT_ADAPTER else f"the adapter {adapter!r}"
            raise ValueError(f"{path} already has {named}: merge it first, or leave it out of the targets")
        return
    if module is None or not can_adapt(module):
        kind = f"a {type(module).__name__}" if module else "no such module"
        near = ", ".join(nearest_paths(path, [p for p, m in modules.items() if can_adapt(m)]))
        raise ValueError(f"{path}: an adapter needs an {KINDS_TEXT}, the model has {kind}; nearest: {near}")


def _generator(seed: int | None, generator: torch.Generator | None) -> torch.Generator | None:
    if seed is None:
        return generator
    if generator is not None:
        raise ValueError("give a seed or a generator, not both")
    return torch.Generator().manual_seed(seed)
