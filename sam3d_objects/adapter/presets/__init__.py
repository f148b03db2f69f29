"""Presets: what to adapt in kinds of models, recipes by the size of the data set, and freeze strategies."""

from sam3d_objects.adapter.presets.config import PresetConfig
from sam3d_objects.adapter.presets.freeze import STRATEGIES
from sam3d_objects.adapter.presets.loading import load_config
from sam3d_objects.adapter.presets.plan import PresetPlan, apply_preset, plan_preset
from sam3d_objects.adapter.presets.preset import AUTO, Part, Preset, load_preset, preset_names
from sam3d_objects.adapter.presets.proposal import Decision, Proposal, propose
from sam3d_objects.adapter.presets.recipe import RECIPE_NAMES, RECIPES, Recipe, choose_recipe, recipe_for

__all__ = [
    "AUTO",
    "RECIPES",
    "RECIPE_NAMES",
    "STRATEGIES",
    "Decision",
    "Part",
    "Preset",
    "PresetConfig",
    "PresetPlan",
    "Proposal",
    "Recipe",
    "apply_preset",
    "choose_recipe",
    "load_config",
    "load_preset",
    "plan_preset",
    "preset_names",
    "propose",
    "recipe_for",
]
