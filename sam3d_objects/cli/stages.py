"""The stages of training, put together from what the command line was told: model, slices, contract, options."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sam3d_objects.adapter.presets import PresetConfig, PresetPlan, plan_preset
from sam3d_objects.config import TrainOptions
from sam3d_objects.config.train import LORA_DEFAULTS, RECIPES, STAGE_DEFAULTS
from sam3d_objects.dataset import Augment, TS_SAM3D_Dataset
from sam3d_objects.model import SAM3DObjects, load_model
from sam3d_objects.model.lora import DEFAULT_TARGETS, MLP_TARGETS
from sam3d_objects.model.quantised import frozen_base
from sam3d_objects.model.stages import DECODER, LATENT, STRUCTURE, adapted_module
from sam3d_objects.training import LoopOptions, Stage, StructureOptions, StructureStage, ValidationSlices, contract_of
from sam3d_objects.training.launch import first_process
from sam3d_objects.training.scene_scale import typical_scene_scale_mm
from sam3d_objects.training.stages.decoder import DecoderStage
from sam3d_objects.training.stages.decoder_options import DecoderOptions
from sam3d_objects.training.stages.latent import LatentFlowStage
from sam3d_objects.training.stages.latent_options import LatentOptions
from sam3d_objects.training.targets import InversionOptions
from sam3d_objects.training.targets.build import TARGETS_FOLDER
from sam3d_objects.training.varied import VariedStage

from .models import torch_device
from .organs import organ_names, organs_in_splits

OVERFIT_REPEATS = 25  # an epoch of a few samples would be mostly validation and lines for people
OVERFIT_DRAWS = 4
BuiltStage = StructureStage | LatentFlowStage | DecoderStage
BuiltOptions = StructureOptions | LatentOptions | DecoderOptions
STAGE_CLASSES: dict[str, tuple[type, type]] = {
    STRUCTURE: (StructureStage, StructureOptions),
    LATENT: (LatentFlowStage, LatentOptions),
    DECODER: (DecoderStage, DecoderOptions),
}
_KEPT = ("samples", "steps", "guidance", "threshold", "fit")


@dataclass(frozen=True)
class ReadyStage:
    """A stage to be trained, with what a validator needs.

    Attributes:
        stage: for the loop.
        built: the same without variations, which has the targets.
        model: that it adapts a module of.
        validation_slices: of validation patients; None where there are none, and for overfitting.
        fixed: the slices that are learnt by heart; None otherwise.
    """

    stage: Stage
    built: BuiltStage
    model: SAM3DObjects
    validation_slices: ValidationSlices | None
    fixed: ValidationSlices | None = None


def ready_stage(data_root: Path, options: TrainOptions, beside: str = "") -> ReadyStage:
    """Put a stage together: model, training and validation slices, contract, options.

    Args:
        data_root: prepared folder.
        options: of one stage (`TrainOptions.of_stage`).
        beside: identity of the adapters that it is validated with; a run is resumed beside the same ones only.

    Raises:
        ValueError: the base has no such part, the data set has no such organ, or an option does not suit the stage.
    """
    halves = ("structure",) if options.stage == STRUCTURE else ("structure", "latent")
    model = load_model(options.base, stages=halves)
    samples = training_slices(data_root, options)
    validation = fixed = None
    if options.overfit:
        fixed = _fixed_slices(samples, options)
    elif organs := _judged_organs(samples):
        held_out = TS_SAM3D_Dataset(data_root, "val", organs)
        validation = ValidationSlices(held_out, options.seed, options.validation_slices or 0)
    stage_class, _ = STAGE_CLASSES[options.stage]
    contract = contract_of(samples, model, options.pointmap == "drop", _scene_scale_mm(samples, options))
    given = {name: getattr(options, name) for name in _KEPT if getattr(options, name) is not None}
    built = stage_class(
        model,
        samples,
        validation,
        data_root / TARGETS_FOLDER,
        dataclasses.replace(contract, **given),
        told_options(model, options),
    )
    # After the stage has taken what it makes targets with, and before adapters go in.
    frozen_base(adapted_module(model, options.stage), options.base_dtype)
    record = {name: getattr(options, name) for name in ("base_dtype", "overfit", "validation_samples")}
    record |= {"beside": beside} if beside else {}
    record |= {"recipe": options.recipe} if options.recipe != RECIPES[0] else {}
    stage = VariedStage(built, record, None if fixed is None else _fixed_samples(built, fixed), OVERFIT_REPEATS)
    return ReadyStage(stage, built, model, validation, fixed)


def loop_options(options: TrainOptions) -> LoopOptions:
    """Return what the one loop is told."""
    values = same_names(options, LoopOptions)
    if options.overfit:
        values |= {"patience": 0, "batch_size": min(options.overfit, options.batch_size or options.overfit)}
    half, gpu = options.base_dtype != "fp32", torch_device(options.device).startswith("cuda")
    if half and not gpu and options.precision == "auto":
        values["precision"] = "bf16"  # what `auto` is on a GPU; without autocast half precision weights can't train
    return LoopOptions(**values)


def same_names(options: TrainOptions, cls: type) -> dict[str, Any]:
    """Return the options that a dataclass of another package has under the same name."""
    names = {field.name for field in dataclasses.fields(cls)}
    return {name: value for name, value in vars(options).items() if name in names}


def training_slices(data_root: Path, options: TrainOptions) -> TS_SAM3D_Dataset:
    """Return the slices of training patients; an epoch has as many as its length says."""
    by_heart = options.overfit > 0
    return TS_SAM3D_Dataset(
        data_root,
        "train",
        organ_names(options.organs),
        augment=Augment() if options.augment and not by_heart else None,
        variants=1 if by_heart else options.variants,
        seed=options.seed,
        allow_mirror=options.allow_mirror,
        slices_per_plane=options.slices_per_plane,
    )


def _scene_scale_mm(samples: TS_SAM3D_Dataset, options: TrainOptions) -> float:
    """Return what is 1 in all pointmaps; 0 where each slice has its own, or nothing sees a pointmap."""
    if options.stage != STRUCTURE or options.pointmap == "drop":
        return 0.0
    if options.scene_scale_mm is not None:
        return options.scene_scale_mm
    return typical_scene_scale_mm(samples)


def _judged_organs(samples: TS_SAM3D_Dataset) -> list[str]:
    """Return the structures to be trained that a validation patient has; those that none has are named."""
    if "val" not in samples.manifest.split.values():
        return []
    present = organs_in_splits(samples.manifest, ["val"])
    without = [organ for organ in samples.organs if organ not in present]
    if without and first_process():
        print(f"No validation patient has {', '.join(without)}: trained, but not judged while training")
    return [organ for organ in samples.organs if organ in present]


def _fixed_slices(samples: TS_SAM3D_Dataset, options: TrainOptions) -> ValidationSlices:
    """Choose N slices, spread over the training patients, and leave the organs that they don't show out of it."""
    fixed = ValidationSlices(samples, options.seed, options.overfit)
    shown = {place[:2] for place in fixed.slices}
    samples.pairs = [pair for pair in samples.pairs if pair in shown]
    return fixed


def _fixed_samples(built: BuiltStage, fixed: ValidationSlices) -> Sequence[Any]:
    if isinstance(built, DecoderStage):  # which learns from shapes
        return list(dict.fromkeys((case, organ, 0) for case, organ, _, _ in fixed.slices))
    return fixed


def told_options(model: SAM3DObjects, options: TrainOptions, tell: bool = True) -> BuiltOptions:
    """Return what the stage's class is told, with the targets that a preset finds in the model.

    Args:
        model: without adapters.
        options: of one stage.
        tell: whether to print what a preset does.

    Raises:
        ValueError: a preset, a strategy or a number that does not suit the stage.
    """
    _, cls = STAGE_CLASSES[options.stage]
    plan = _preset_plan(model, options)
    if plan and tell and first_process():
        print(plan.text)
    chosen: dict[str, Any] = {"trained": plan.config.trained_modules} if plan else {}
    if plan and options.preset:
        chosen["targets"] = plan.config.target_modules
    return cls(**stage_arguments(options, cls), **chosen)


def _preset_plan(model: SAM3DObjects, options: TrainOptions) -> PresetPlan | None:
    """Return what a preset and freeze strategies do to the stage's module; None where there is neither."""
    if not (options.preset or options.freeze):
        return None
    config = PresetConfig(options.preset or f"sam3d_{options.stage}", freeze=options.freeze, rank=options.lora_rank)
    return plan_preset(adapted_module(model, options.stage), config)


def stage_arguments(options: TrainOptions, cls: type) -> dict[str, Any]:
    values = same_names(options, cls)
    # Without LoRA nothing reads these; the run's record has the defaults then, as it always had.
    usual = {**LORA_DEFAULTS, **STAGE_DEFAULTS[options.stage]}
    lora = {name: getattr(options, name) for name in (*LORA_DEFAULTS, "lora_mlp", "train_heads")}
    lora = {name: usual[name] if value is None else value for name, value in lora.items()}
    values |= {"rank": lora["lora_rank"], "alpha": lora["lora_alpha"], "dropout": lora["lora_dropout"]}
    values["train_heads"] = lora["train_heads"]
    if not options.preset:
        values["targets"] = options.lora_targets or ((*DEFAULT_TARGETS, *MLP_TARGETS) if lora["lora_mlp"] else ())
    if cls is StructureOptions:
        values["drop_pointmap"] = options.pointmap == "drop"
    else:
        values["inversion"] = InversionOptions(steps=options.inversion_steps, prior_weight=options.inversion_prior)
    if "cache_epochs" in values and options.epochs is not None:
        values["cache_epochs"] = min(values["cache_epochs"], options.epochs)  # more would never be used
    if options.overfit:
        # By heart means with the condition, and more draws of each sample make its loss a steadier one.
        heart = {"condition_dropout": 0.0, "cache_epochs": 0, "draws": max(options.draws or 1, OVERFIT_DRAWS)}
        values |= {name: value for name, value in heart.items() if name in values}
    return values
