"""`--recipe`: LoRA's numbers and the learning rate by how much there is to train on."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from sam3d_objects.config import TrainOptions

if TYPE_CHECKING:
    from sam3d_objects.dataset import TS_SAM3D_Dataset


def stage_options(options: TrainOptions, stage: str, data_root: Path, tell: bool = True) -> TrainOptions:
    """Return the options of one stage with what its recipe says filled in, and print the recipe.

    What was given stays, the learning rate too; an alpha that was not given goes with the rank. Without a recipe
    these are the stage's own options.

    Args:
        options: as they were given.
        stage: one of `options.stages`.
        data_root: prepared folder, whose training samples are counted for `auto`.
        tell: whether to print the recipe.

    Raises:
        ValueError: a recipe without LoRA, or a data set that has nothing to train on.
    """
    from sam3d_objects.adapter.presets.recipe import ALPHA_PER_RANK, BY_COUNT, NONE, choose_recipe
    from sam3d_objects.training.launch import first_process

    from .stages import training_slices

    of_stage = options.of_stage(stage)
    if options.recipe == NONE:
        return of_stage
    if options.method != "lora":
        raise ValueError(f"TrainOptions.recipe is for method lora, which has a rank; got method {options.method}")
    samples = _count(training_slices(data_root, of_stage), stage) if options.recipe == BY_COUNT else None
    recipe = choose_recipe(options.recipe, samples)
    assert recipe is not None and of_stage.lr is not None, "a recipe other than none, of a stage"
    rank = recipe.rank if options.lora_rank is None else options.lora_rank
    if tell and first_process():
        print(f"{stage}: {recipe.describe(samples)}")
    return dataclasses.replace(
        of_stage,
        recipe=recipe.name,
        lr=of_stage.lr * recipe.lr_factor if options.lr is None else options.lr,
        lora_rank=rank,
        lora_alpha=ALPHA_PER_RANK * rank if options.lora_alpha is None else options.lora_alpha,
        lora_dropout=recipe.dropout if options.lora_dropout is None else options.lora_dropout,
    )


def _count(slices: "TS_SAM3D_Dataset", stage: str) -> int:
    """Return how many samples an epoch has: slices, or for the decoder, which sees none, organs."""
    return len(slices.pairs) if stage == "decoder" else len(slices)
