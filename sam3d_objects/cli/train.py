"""`sam3d-med train`: a prepared data set becomes an adapter."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from sam3d_objects.config import TrainOptions

from .organs import organ_names, organs_in_splits

if TYPE_CHECKING:
    from sam3d_objects.model import SAM3DObjects
    from sam3d_objects.training import StructureStage, TrainResult

BEST_ADAPTER = "best"


def train(
    data_root: Annotated[Path, "prepared data set (from `sam3d-med prepare`)"],
    options: TrainOptions,
    checkpoint_dir: Annotated[Path, "folder of the run: best/ and last/ adapters, checkpoint, log"] = Path(
        "runs/training"
    ),
    use_dataset: Annotated[bool, "train on the data set at --data_root, the only source of samples"] = True,
) -> None:
    """Adapt the model to a prepared data set with LoRA, and keep the best adapter by validation.

    The base model stays frozen. Validation reconstructs slices of validation patients; training stops when they
    no longer get better. Ctrl-C ends it after the current step; the same command with --resume goes on there.

        sam3d-med train --data_root data/hippocampus --checkpoint_dir runs/hippocampus --lora_rank 8

    Research use, not for diagnosis.
    """
    if not use_dataset:
        raise ValueError("--no_use_dataset: there is no other source of samples; prepare a data set first")
    result = train_adapter(data_root, checkpoint_dir, options)
    if result.interrupted:
        raise KeyboardInterrupt
    print(f"Best adapter: {result.best}")


def train_adapter(data_root: Path, checkpoint_dir: Path, options: TrainOptions) -> "TrainResult":
    """Train, choose the threshold on validation patients, and return how it ended."""
    from sam3d_objects.dataset import Manifest
    from sam3d_objects.model import load_model
    from sam3d_objects.training import LoopOptions, MedicalTrainer

    from .models import torch_device
    from .validation import COARSE_THRESHOLDS, Judged, best_threshold, calibrate_adapter, validation_slices

    Manifest.load(data_root)  # what is wrong with the data is said before a large model is read
    stage = structure_stage(load_model(options.base, stages=("structure",)), data_root, options)
    slices: list[Judged] = []
    if stage.validation is not None:
        organs = organ_names(options.organs) or organs_in_splits(stage.train_samples.manifest, ["val"])
        slices = validation_slices(data_root, organs, options.seed, options.validation_slices)
    quick = dataclasses.replace(stage.contract, samples=options.validation_samples)

    def validator() -> dict[str, float]:
        _, dice = best_threshold(stage.model, quick, slices, options.seed, COARSE_THRESHOLDS)
        return {"dice": dice}

    loop = LoopOptions(**_same_names(options, LoopOptions))
    trainer = MedicalTrainer(stage, loop, checkpoint_dir, validator=validator if slices else None)
    result = trainer.train(resume=options.resume)
    if slices and options.threshold is None and not result.interrupted:
        device = torch_device(options.device)
        threshold = calibrate_adapter(result.best, options.base, device, slices, options.seed)
        print(f"{result.best}: threshold {threshold:g}, the best on {len(slices)} validation slices")
    return result


def structure_stage(model: "SAM3DObjects", data_root: Path, options: TrainOptions) -> "StructureStage":
    """Put the structure stage together: model, training and validation slices, contract."""
    from sam3d_objects.dataset import Augment, TS_SAM3D_Dataset
    from sam3d_objects.model.lora import DEFAULT_TARGETS, MLP_TARGETS
    from sam3d_objects.training import StructureOptions, StructureStage, ValidationSlices, contract_of

    organs = organ_names(options.organs)
    samples = TS_SAM3D_Dataset(
        data_root,
        "train",
        organs,
        augment=Augment() if options.augment else None,
        variants=options.variants,
        seed=options.seed,
        allow_mirror=options.allow_mirror,
        slices_per_plane=options.slices_per_plane,
    )
    validation = None
    if "val" in samples.manifest.split.values():
        held_out = TS_SAM3D_Dataset(data_root, "val", organs)
        validation = ValidationSlices(held_out, options.seed, options.validation_slices)
    structure = StructureOptions(
        **_same_names(options, StructureOptions),
        rank=options.lora_rank,
        alpha=options.lora_alpha,
        dropout=options.lora_dropout,
        targets=options.lora_targets or ((*DEFAULT_TARGETS, *MLP_TARGETS) if options.lora_mlp else ()),
        drop_pointmap=options.pointmap == "drop",
    )
    given = {name: getattr(options, name) for name in ("samples", "steps", "guidance", "threshold", "fit")}
    contract = dataclasses.replace(
        contract_of(samples, model, structure.drop_pointmap),
        **{name: value for name, value in given.items() if value is not None},
    )
    return StructureStage(model, samples, validation, data_root / "targets", contract, structure)


def _same_names(options: TrainOptions, cls: type) -> dict[str, Any]:
    """Return the options that a dataclass of another package has under the same name."""
    names = {field.name for field in dataclasses.fields(cls)}
    return {name: value for name, value in vars(options).items() if name in names}
