"""What is certain to stop one of several stages, found out before the first of them trains."""

from pathlib import Path

from sam3d_objects.config import TrainOptions


def check_stages(data_root: Path, options: TrainOptions) -> None:
    """Try every stage's part of the base, its source of latents and its layers to be adapted; nothing is trained.

    The model is read once for it and thrown away, which is little beside training the first stage in vain.

    Args:
        data_root: prepared folder, whose samples a recipe may count.
        options: as they were given, of several stages.

    Raises:
        ValueError: a stage lacks its part of the base, or an option does not suit it; the message names the stage.
    """
    from sam3d_objects.model import load_model
    from sam3d_objects.model.lora import setup_from_config
    from sam3d_objects.model.stages import STRUCTURE, adapted_module
    from sam3d_objects.training.targets import resolve_source

    from .recipe import stage_options
    from .stages import told_options

    model = load_model(options.base, stages=("structure", "latent"))
    for stage in options.stages:
        try:
            of_stage = stage_options(options, stage, data_root, tell=False)
            module = adapted_module(model, stage)
            if stage != STRUCTURE:
                resolve_source(model.latent_stage, of_stage.latent_source)
            # With a seed of its own: what is drawn from the global generators stays what it was.
            setup_from_config(module, told_options(model, of_stage, tell=False).adaptation.saved_config, seed=0)
        except ValueError as error:
            raise ValueError(f"stage {stage}, found out before any stage is trained: {error}") from error
