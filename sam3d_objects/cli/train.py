"""`sam3d-med train`: a prepared data set becomes an adapter, or one of each stage."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from sam3d_objects.config import TrainOptions
from sam3d_objects.config.train import ALL

from .organs import organs_in_splits

if TYPE_CHECKING:
    from sam3d_objects.adapter import AdapterSet
    from sam3d_objects.evaluation import Material
    from sam3d_objects.training import TrainResult, Validator

    from .stages import ReadyStage

BEST_ADAPTER = "best"


def train(
    data_root: Annotated[Path, "prepared data set (from `sam3d-med prepare`)"],
    options: TrainOptions,
    checkpoint_dir: Annotated[Path, "folder of the run: best/ and last/ adapters, checkpoint, log"] = Path(
        "runs/training"
    ),
    use_dataset: Annotated[bool, "train on the data set at --data_root, the only source of samples"] = True,
) -> None:
    """Adapt the model to a prepared data set, and keep the best adapter by validation.

    The base model stays frozen. Validation reconstructs slices of validation patients, and the adapter that does best
    there is kept. After --patience validations without gain training stops; with the default epochs, which have too few
    validations for that, it takes more --epochs or a smaller --validate_every. Ctrl-C ends it after the current step;
    the same command with --resume goes on there.

        sam3d-med train --data_root data/hippocampus --checkpoint_dir runs/hippocampus --lora_rank 8

    --stage says what is adapted: `structure` where the organ is and its coarse shape, `latent` how its surface runs,
    `decoder` how latents become a surface; `all` trains the three in turn, each in a folder of its own, and best/ is
    then a set of adapters that is used like one.

        sam3d-med train --data_root data/hippocampus --checkpoint_dir runs/hippocampus --stage all

    --method says how: `lora` small updates (the default), `full` all weights of the stage, `scratch` all of them from
    random ones. --recipe says LoRA's rank, dropout and learning rate by the size of the data set, --preset and --freeze
    which layers it adapts and what trains beside them. --overfit 4 learns four slices by heart and fails where it
    can't: a first look whether data, targets and options make sense.

    Research use, not for diagnosis.
    """
    from sam3d_objects.training.launch import first_process

    if not use_dataset:
        raise ValueError("--no_use_dataset: there is no other source of samples; prepare a data set first")
    result = train_adapter(data_root, checkpoint_dir, options)
    if result.interrupted:
        raise KeyboardInterrupt
    if first_process():
        print(f"Best adapter: {result.best}")


def train_adapter(data_root: Path, checkpoint_dir: Path, options: TrainOptions) -> "TrainResult":
    """Train one stage, or the three in turn, and return how it ended."""
    from sam3d_objects.dataset import Manifest
    from sam3d_objects.training.launch import leave

    Manifest.load(data_root)  # what is wrong with the data is said before a large model is read
    _check_run_folder(checkpoint_dir, options.stage)
    result = _train_stages(data_root, checkpoint_dir, options)
    leave()
    return result


def _train_stages(data_root: Path, checkpoint_dir: Path, options: TrainOptions) -> "TrainResult":
    from .ahead import check_stages
    from .recipe import stage_options

    if options.stage != ALL:
        return _train_stage(data_root, checkpoint_dir, stage_options(options, options.stage, data_root))
    check_stages(data_root, options)
    chosen = checkpoint_dir / BEST_ADAPTER
    for stage in options.stages:
        result = _train_stage(data_root, checkpoint_dir / stage, stage_options(options, stage, data_root), chosen)
        if result.interrupted:
            break
    return dataclasses.replace(result, best=chosen)


def _check_run_folder(checkpoint_dir: Path, stage: str) -> None:
    """Refuse to put one stage's run where a run of all is, or the other way round: best/ would hold both."""
    from sam3d_objects.adapter.record import RECORD
    from sam3d_objects.model.stages import STAGES

    best = checkpoint_dir / BEST_ADAPTER
    single, several = (best / RECORD).is_file(), any((best / name).is_dir() for name in STAGES)
    if (single and stage == ALL) or (several and stage != ALL):
        there = "one stage" if single else "all stages"
        raise ValueError(f"{checkpoint_dir} holds a run of {there} already: choose another --checkpoint_dir")


def _train_stage(data_root: Path, run_dir: Path, options: TrainOptions, chosen: Path | None = None) -> "TrainResult":
    """Train one stage.

    Args:
        data_root, run_dir: of the data set and of the run.
        options: of the stage.
        chosen: the adapter set that the best adapter is put into; those of earlier stages in it are used where
            validation reconstructs.
    """
    from sam3d_objects.adapter import add_to_set
    from sam3d_objects.training import MedicalTrainer

    from .overfit import check_learnt
    from .stages import loop_options, ready_stage

    earlier = _earlier(chosen, options.stage)
    ready = ready_stage(data_root, options, earlier.identity if earlier else "")
    if earlier:
        earlier.load(ready.model)
    slices = stage_slices(ready, data_root, options)
    validator = stage_validator(ready, slices, options, earlier) if slices else None
    trainer = MedicalTrainer(ready.stage, loop_options(options), run_dir, validator=validator)
    before = trainer.validate() if options.overfit else {}
    result = trainer.train(resume=options.resume)
    if result.interrupted:
        return result
    if trainer.processes.first:
        if options.stage == "structure" and options.threshold is None and slices and not options.overfit:
            _calibrate(result.best, slices, options)
        if chosen:
            add_to_set(result.best, chosen)
    trainer.fabric.barrier()  # what the first process wrote is what the others read next
    if options.overfit:
        trainer.log.say(check_learnt(options.stage, before, result.metrics))
    return result


def _earlier(chosen: Path | None, stage: str) -> "AdapterSet | None":
    """The adapters of a set's earlier stages, if there is such a set."""
    from sam3d_objects.adapter import read_adapter_set
    from sam3d_objects.model.stages import STAGES

    before = STAGES[: STAGES.index(stage)]
    if not (chosen and before):
        return None
    return read_adapter_set(chosen).only(before)


def stage_slices(ready: "ReadyStage", data_root: Path, options: TrainOptions) -> "list[Material]":
    """The slices that a validation reconstructs: of validation patients, or those that are learnt by heart."""
    from .validation import validation_slices

    samples, split, most = ready.validation_slices, "val", options.validation_slices
    if ready.fixed is not None:
        samples, split, most = ready.fixed, "train", options.overfit
    if samples is None:
        return []
    assert most is not None, "of one stage"
    # A structure that only the other patients have is trained, and has nobody to be judged on.
    present = organs_in_splits(samples.dataset.manifest, [split])
    organs = [organ for organ in samples.dataset.organs if organ in present]
    return validation_slices(data_root, organs, options.seed, most, split)


def stage_validator(
    ready: "ReadyStage", slices: "list[Material]", options: TrainOptions, earlier: "AdapterSet | None"
) -> "Validator":
    from .overfit import overfit_validator
    from .validation import StructureValidator, SurfaceValidator

    if options.overfit:
        return overfit_validator(ready, slices, options.seed)
    contract = earlier.contract if earlier else ready.built.contract
    quick = dataclasses.replace(contract, samples=options.validation_samples)
    kind = StructureValidator if options.stage == "structure" else SurfaceValidator
    return kind(ready.model, quick, slices, options.seed)


def _calibrate(best: Path, slices: "list[Material]", options: TrainOptions) -> None:
    """Choose how many samples, which threshold and whether the fit the best adapter is used with, once."""
    from sam3d_objects.adapter import read_adapter

    from .models import torch_device
    from .threshold import CALIBRATED, calibrate_adapter

    if CALIBRATED in read_adapter(best).meta.metrics:
        return
    threshold = calibrate_adapter(best, options.base, torch_device(options.device), slices, options.seed)
    print(f"{best}: sampled as validation says (threshold {threshold:g}, {len(slices)} slices)")
