"""A preset meets a model: which layers it adapts, what trains beside them, and why; nothing is changed yet."""

from dataclasses import dataclass

from torch import nn

from sam3d_objects.adapter.presets.config import PresetConfig
from sam3d_objects.adapter.presets.freeze import (
    ADAPTERS_ONLY,
    BACKBONE_ONLY,
    HEADS,
    NORMS,
    STRATEGIES,
    as_patterns,
    checked_parameters_of,
    fixed_parameters,
    parameters_of,
)
from sam3d_objects.adapter.presets.preset import AUTO, Part, Preset, load_preset
from sam3d_objects.adapter.presets.proposal import propose
from sam3d_objects.adapter.presets.recipe import BY_COUNT, Recipe, choose_recipe
from sam3d_objects.model.lora import (
    LayerOptions,
    LoRAConfig,
    collapse_paths,
    lora_summary,
    plan_injection,
    setup_from_config,
)


@dataclass(frozen=True)
class PresetPlan:
    """What a preset does to one model.

    Attributes:
        config: for `setup_from_config` and `save_adapter`: the targets that the model has, and by name what trains
            fully beside them.
        recipe: that was chosen; its `lr_factor` is for the training loop. None: no recipe.
        text: all this for people, for `auto` with the reason of each decision.
    """

    config: LoRAConfig
    recipe: Recipe | None
    text: str


def apply_preset(
    model: nn.Module,
    config: PresetConfig,
    *,
    samples: int | None = None,
    seed: int | None = None,
    verbose: bool = True,
) -> PresetPlan:
    """Adapt a model in place as a preset says, freeze the rest, and return what was done.

    Args:
        model: without adapters.
        config: which preset, and what of it is otherwise.
        samples: in the training set, for the recipe `auto`.
        seed: of the A matrices; default: torch's global generator.
        verbose: print the plan, and what of the model trains.

    Raises:
        ValueError: as `plan_preset`; the model is unchanged then.
    """
    plan = plan_preset(model, config, samples=samples)
    setup_from_config(model, plan.config, seed=seed)
    if verbose:
        print(f"{plan.text}\n{lora_summary(model)}")
    return plan


def plan_preset(model: nn.Module, config: PresetConfig, *, samples: int | None = None) -> PresetPlan:
    """Decide what a preset does to a model, without touching it.

    Raises:
        ValueError: no such preset, part or role; a role whose layers, or a strategy whose modules, the model does not
            have (the nearest paths are named); recipe `auto` without `samples`.
    """
    recipe = choose_recipe(config.recipe, samples)
    lines = [] if recipe is None else [recipe.describe(samples if config.recipe == BY_COUNT else None)]
    if config.preset == AUTO:
        proposal = propose(model, (config.rank or (recipe.rank if recipe else Preset.rank)))
        preset, text = proposal.preset, proposal.text
    else:
        preset = load_preset(config.preset)
        text = f"preset {preset.name}: {preset.description}"
    preset.check_roles(config.roles)
    preset.check_parts(config.parts)
    parts = _parts(model, preset, config)
    patterns = tuple(p for part in parts.values() for p in part_targets(model, preset, part, config.roles))
    options = config.layer_options(preset, recipe)
    freeze = config.freeze or preset.freeze
    adapted = set(plan_injection(model, patterns, options, {}))
    trained = _trained(model, preset, parts, freeze, adapted)
    lines.append(text)
    if len(preset.parts) > 1:
        lines.append(f"parts: {', '.join(parts)}")
    lines += [f"freeze {name}: {STRATEGIES[name]}" for name in freeze]
    lora = LoRAConfig(
        rank=options.rank,
        alpha=options.alpha,
        dropout=options.dropout,
        target_modules=tuple(dict.fromkeys(patterns)),
        trained_modules=trained,
    )
    return PresetPlan(lora, recipe, "\n".join(lines))


def part_targets(model: nn.Module, preset: Preset, part: Part, roles: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Return the spellings of a part's roles that a model has.

    Args:
        roles: of the preset; empty: its own choice. Those that another part has are passed over.

    Raises:
        ValueError: a role none of whose spellings finds a layer.
    """
    found: list[str] = []
    for role in roles or preset.roles or preset.all_roles:
        errors = []
        spellings = []
        for pattern in part.targets.get(role, ()):
            try:
                plan_injection(model, (pattern,), LayerOptions(), {})
                spellings.append(pattern)
            except ValueError as error:
                errors.append(str(error))
        if errors and not spellings:
            raise ValueError(
                f"the preset {preset.name!r} finds no layer for {role!r} in this {type(model).__name__}: {errors[0]}. "
                f"Name other roles ({', '.join(preset.all_roles)}), or take the preset {AUTO!r}"
            )
        found += spellings
    return tuple(found)


def _parts(model: nn.Module, preset: Preset, config: PresetConfig) -> dict[str, Part]:
    """Return the parts that were asked for, or else those that the model has something of."""
    if config.parts:
        return {name: preset.parts[name] for name in config.parts}
    present = {name: part for name, part in preset.parts.items() if _has_any(model, part)}
    return present or dict(preset.parts)  # none: their roles are then named as missing


def _has_any(model: nn.Module, part: Part) -> bool:
    return bool(parameters_of(model, (pattern for patterns in part.targets.values() for pattern in patterns)))


def _trained(
    model: nn.Module, preset: Preset, parts: dict[str, Part], freeze: tuple[str, ...], adapted: set[str]
) -> tuple[str, ...]:
    """Return patterns of what the strategies train beside the adapters; what the model holds fixed stays fixed."""
    everything = {name for name, _ in model.named_parameters()}
    inside = parameters_of(model, adapted)  # paths are patterns, too
    names: set[str] = set()
    for strategy in freeze:
        where = f"the preset {preset.name!r}: {strategy}"
        if strategy == HEADS:
            heads = (*preset.heads, *(pattern for part in parts.values() for pattern in part.heads))
            names |= checked_parameters_of(model, heads, where)
        elif strategy == NORMS:
            norms = tuple(pattern for part in parts.values() for pattern in part.norms)
            names |= checked_parameters_of(model, norms, where)
        elif strategy == BACKBONE_ONLY:
            outside = everything - checked_parameters_of(model, preset.backbone, where)
            if not outside - inside:
                raise ValueError(f"{where}: nothing is outside the backbone; take {ADAPTERS_ONLY}")
            names |= outside - inside
    if clash := sorted(names & inside):
        raise ValueError(
            f"the preset {preset.name!r}: adapted layers can't train fully as well: {', '.join(collapse_paths(clash))}"
        )
    return as_patterns(model, names - fixed_parameters(model))
