"""`sam3d-med train`: a prepared data set becomes an adapter."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from sam3d_objects.config import TrainOptions

if TYPE_CHECKING:
    from sam3d_objects.adapter import InferenceContract
    from sam3d_objects.dataset import Manifest
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
    """Train, and return how it ended."""
    from sam3d_objects.model.weights import load_model
    from sam3d_objects.training import LoopOptions, MedicalTrainer

    from .validation import reconstruction_validator

    model = load_model(options.base)
    stage = structure_stage(model, data_root, options)
    validator = reconstruction_validator(stage, options)
    loop = LoopOptions(**_same_names(options, LoopOptions))
    trainer = MedicalTrainer(stage, loop, checkpoint_dir, validator=validator)
    return trainer.train(resume=options.resume)


def structure_stage(model: "SAM3DObjects", data_root: Path, options: TrainOptions) -> "StructureStage":
    """Put the structure stage together: model, training and validation slices, contract."""
    from sam3d_objects.dataset import Augment, Manifest, TS_SAM3D_Dataset
    from sam3d_objects.training import StructureOptions, StructureStage, ValidationSlices

    manifest = Manifest.load(data_root)
    organs = organ_names(options.organs)
    samples = TS_SAM3D_Dataset(
        data_root,
        "train",
        organs,
        augment=Augment() if options.augment else None,
        variants=options.variants,
        seed=options.seed,
        allow_mirror=options.allow_mirror,
    )
    validation = None
    if "val" in manifest.split.values():
        held_out = TS_SAM3D_Dataset(data_root, "val", organs)
        validation = ValidationSlices(held_out, options.seed)
    structure = StructureOptions(
        **_same_names(options, StructureOptions),
        rank=options.lora_rank,
        alpha=options.lora_alpha,
        dropout=options.lora_dropout,
        targets=options.lora_targets,
        drop_pointmap=options.pointmap == "drop",
    )
    contract = inference_contract(manifest, options)
    return StructureStage(model, samples, validation, data_root / "targets", contract, structure)


def inference_contract(manifest: "Manifest", options: TrainOptions) -> "InferenceContract":
    """Say how the adapter is to be used: as its data set was prepared, and sampled as the options say."""
    from sam3d_objects.adapter import InferenceContract

    return InferenceContract(
        field_of_view=manifest.field_of_view,
        margin_mm=manifest.margin_mm,
        modality=manifest.modality,
        window_hu=manifest.window_hu,
        percentiles=manifest.percentiles,
        steps=options.steps,
        guidance=options.guidance,
        samples=options.samples,
        threshold=options.threshold,
        fit=options.fit,
        pointmap=options.pointmap,
    )


def organ_names(text: str) -> list[str] | None:
    """Read a list of structures separated by commas; an empty text means all of the data set."""
    return [name.strip() for name in text.split(",") if name.strip()] or None


def _same_names(options: TrainOptions, cls: type) -> dict[str, Any]:
    """Return the options that a dataclass of another package has under the same name."""
    names = {field.name for field in dataclasses.fields(cls)}
    return {name: value for name, value in vars(options).items() if name in names}
