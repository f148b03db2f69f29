"""Training from the command line on a small model: every stage, the three in turn, and learning by heart."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sam3d_objects.model
from sam3d_objects.adapter import add_to_set, read_adapter, read_adapter_set
from sam3d_objects.cli import stages as stages_module
from sam3d_objects.cli import train as train_module
from sam3d_objects.cli.main import FAILED, main
from sam3d_objects.cli.overfit import GOALS, Goal, check_learnt
from sam3d_objects.cli.stages import loop_options, ready_stage, training_slices
from sam3d_objects.cli.train import train_adapter
from sam3d_objects.config import TrainOptions
from sam3d_objects.dataset import PrepareOptions, prepare
from sam3d_objects.files import read_json
from sam3d_objects.model import SAM3DObjects
from sam3d_objects.model.lora import has_lora
from sam3d_objects.model.stages import STAGES, adapted_module
from sam3d_objects.training.scene_scale import typical_scene_scale_mm
from sam3d_objects.training.stages.decoder import DecoderStage
from sam3d_objects.volume import Volume, write_nifti
from tests.training.conftest import data_root
from tests.training.small_model import small_model, whole_model

__all__ = ["data_root"]  # a fixture

QUICK = TrainOptions(
    epochs=1,
    batch_size=3,
    validate_every=1,
    validation_slices=2,
    validation_samples=1,
    samples=1,
    steps=1,
    fit=False,
    threshold=0.4,
    variants=1,
    slices_per_plane=1,
    lora_rank=2,
    target_iou_bar=0.0,
    target_distance_bar=0.0,
    device="cpu",
)


@pytest.fixture(autouse=True)
def small_base(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """Every base model is the small one; returns which halves were asked for."""
    asked: list[tuple[str, ...]] = []

    def load(base: str = "tiny", device: str = "cpu", stages: tuple[str, ...] = ("structure", "latent")) -> Any:
        asked.append(stages)
        return whole_model(latent_side=8) if "latent" in stages else small_model()

    monkeypatch.setattr(stages_module, "load_model", load)
    monkeypatch.setattr(sam3d_objects.model, "load_model", load)
    return asked


def of(stage: str, **changes: Any) -> TrainOptions:
    return dataclasses.replace(QUICK, stage=stage, **changes)


def test_the_three_in_turn_leave_a_set_and_a_run_folder_each(
    data_root: Path, tmp_path: Path, small_base: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, ...]] = []
    original = train_module.stage_validator

    def spy(ready: Any, slices: Any, options: TrainOptions, earlier: Any) -> Any:
        seen.append(tuple(stage for stage in STAGES if has_lora(_module(ready.model, stage))))
        return original(ready, slices, options, earlier)

    monkeypatch.setattr(train_module, "stage_validator", spy)
    result = train_adapter(data_root, tmp_path / "run", of("all"))
    assert result.best == tmp_path / "run" / "best"
    adapters = read_adapter_set(result.best)
    assert adapters.stages == STAGES
    for stage in STAGES:
        assert read_adapter(tmp_path / "run" / stage / "best").sha256 == adapters.records[stage].sha256
        assert (tmp_path / "run" / stage / "history.json").is_file()
    # Validation of a later stage reconstructs with the adapters of the earlier ones.
    assert seen == [(), ("structure",), ("structure", "latent")]
    whole = ("structure", "latent")
    assert small_base == [whole, ("structure",), whole, whole], "all of it is looked at before the first stage trains"
    metrics = [record.meta.metrics for record in adapters.records.values()]
    assert [set(one) >= {"dice", "loss"} for one in metrics] == [True] * 3
    assert ["assd_mm" in one for one in metrics] == [False, True, True]
    # All of it is finished: nothing is trained again.
    again = train_adapter(data_root, tmp_path / "run", of("all", resume=True))
    assert read_adapter_set(again.best).identity == adapters.identity


def _module(model: SAM3DObjects, stage: str) -> torch.nn.Module:
    return adapted_module(model, stage) if model.latent or stage == "structure" else torch.nn.Identity()


@pytest.mark.parametrize(
    ("there", "asked", "message"),
    [("best/sam3d.json", "all", "a run of one stage"), ("best/latent/sam3d.json", "structure", "a run of all stages")],
)
def test_one_stage_and_all_do_not_share_a_folder(
    data_root: Path, tmp_path: Path, there: str, asked: str, message: str
) -> None:
    (tmp_path / there).parent.mkdir(parents=True)
    (tmp_path / there).touch()
    with pytest.raises(ValueError, match=message):
        train_adapter(data_root, tmp_path, TrainOptions(stage=asked))


@pytest.mark.parametrize("method", ["full", "scratch"])
def test_methods_without_lora_train_all_of_the_stage(data_root: Path, tmp_path: Path, method: str) -> None:
    result = train_adapter(data_root, tmp_path / "run", of("latent", method=method, lora_rank=None))
    record = read_adapter(result.best)
    flow = whole_model(latent_side=8).latent_stage.flow
    assert set(record.trained) == {name for name, _ in flow.named_parameters()}
    assert not record.layers
    assert record.meta.training["latent"]["method"] == method


@pytest.mark.parametrize(
    ("stage", "options", "expected_mm"),
    [
        ("structure", {}, None),
        ("structure", {"scene_scale_mm": 0.0}, 0.0),
        ("structure", {"scene_scale_mm": 5.0}, 5.0),
        ("structure", {"pointmap": "drop"}, 0.0),
        ("decoder", {}, 0.0),
    ],
)
def test_the_structure_sees_millimetres_unless_told_otherwise(
    data_root: Path, stage: str, options: dict[str, Any], expected_mm: float | None
) -> None:
    chosen = of(stage, **options).of_stage(stage)
    found_mm = ready_stage(data_root, chosen).built.contract.scene_scale_mm
    if expected_mm is None:
        assert found_mm == typical_scene_scale_mm(training_slices(data_root, chosen)) > 0
    else:
        assert found_mm == expected_mm


def test_the_threshold_is_chosen_once_and_only_for_the_structure(data_root: Path, tmp_path: Path) -> None:
    free = of("structure", threshold=None)
    result = train_adapter(data_root, tmp_path / "run", free)
    record = read_adapter(result.best)
    assert "dice_at_threshold" in record.meta.metrics
    written = (result.best / "sam3d.json").stat().st_mtime_ns
    train_adapter(data_root, tmp_path / "run", dataclasses.replace(free, resume=True))
    assert (result.best / "sam3d.json").stat().st_mtime_ns == written
    assert read_adapter(result.best).meta.contract.threshold == record.meta.contract.threshold


def test_every_validation_draws_pictures(data_root: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]  # has no stubs
        EventAccumulator,
    )

    train_adapter(data_root, tmp_path / "run", of("structure", epochs=2))
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    names = events.Tags()["images"]
    assert len(names) == 2, "as many as slices are reconstructed, but three at most"
    steps = [row["step"] for row in read_json(tmp_path / "run" / "history.json")]
    assert [[image.step for image in events.Images(name)] for name in names] == [steps, steps]


def test_what_varies_a_run_is_in_its_record(data_root: Path, tmp_path: Path) -> None:
    train_adapter(data_root, tmp_path / "run", of("structure"))
    assert read_json(tmp_path / "run" / "config.json")["stage"]["base_dtype"] == "fp32"
    with pytest.raises(ValueError, match="another run"):
        train_adapter(data_root, tmp_path / "run", of("structure", base_dtype="bf16", resume=True))


def test_a_base_in_bf16_trains_float32_adapters_under_mixed_precision(data_root: Path, tmp_path: Path) -> None:
    options = of("structure", base_dtype="bf16").of_stage("structure")
    assert loop_options(options).precision == "bf16"
    ready = ready_stage(data_root, options)
    assert {p.dtype for p in ready.model.structure_flow.parameters()} == {torch.bfloat16}
    result = train_adapter(data_root, tmp_path / "run", options)
    assert np.isfinite(result.metrics["loss"])


@pytest.mark.parametrize("stage", STAGES)
def test_overfitting_learns_and_validates_the_same_few(data_root: Path, stage: str) -> None:
    ready = ready_stage(data_root, of(stage, overfit=2, condition_dropout=0.5, cache_epochs=3).of_stage(stage))
    assert ready.validation_slices is None and ready.fixed is not None
    train, validation = ready.stage.train_samples, ready.stage.validation_samples
    assert len(validation) == 2
    names = [ready.stage.sample_names([validation[index]]) for index in range(2)]
    assert {tuple(ready.stage.sample_names([train[i]])) for i in range(len(train))} == {tuple(name) for name in names}
    train.set_epoch(5)
    assert ready.stage.sample_names([train[0]]) == names[0]
    assert ready.stage.record()["overfit"] == 2
    assert len(ready.fixed.dataset.pairs) == 2, "targets are made of these alone"
    if not isinstance(ready.built, DecoderStage):
        assert (ready.built.options.condition_dropout, ready.built.options.cache_epochs) == (0.0, 0)


@pytest.fixture(scope="module")
def one_sided(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two structures, of which the validation patients, or those that train, lack `lens`."""
    source = tmp_path_factory.mktemp("scans")
    grid = np.moveaxis(np.indices((20, 20, 20)), 0, -1)
    for number in range(4):
        distance = np.linalg.norm(grid - (9.5 + 0.1 * number), axis=-1)
        labels = np.where(distance < 4, 2, np.where(distance < 8, 1, 0)).astype(np.uint8)
        write_nifti(source / f"p{number}.nii.gz", Volume((labels * 50).astype(np.float32), np.diag([2.0, 2, 2, 1])))
        write_nifti(source / f"p{number}_label.nii.gz", Volume(labels, np.diag([2.0, 2, 2, 1])))
    folders = {}
    for lacking in ("val", "train"):
        folders[lacking] = tmp_path_factory.mktemp(f"without_{lacking}")
        options = PrepareOptions(structures="egg=1+2,lens=2", modality="mr", num_workers=0)
        manifest = prepare(source, folders[lacking], options, say=lambda line: None, show_progress=False)
        cases = []
        for case in manifest.cases:
            kept = {organ: facts for organ, facts in case.organs.items() if organ == "egg"}
            cases.append(dataclasses.replace(case, organs=kept) if manifest.split[case.patient] == lacking else case)
        dataclasses.replace(manifest, cases=tuple(cases)).save(folders[lacking])
    return folders


def test_a_structure_that_no_validation_patient_has_is_trained_and_named(
    one_sided: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = train_adapter(one_sided["val"], tmp_path / "both", of("structure"))
    assert "No validation patient has lens" in capsys.readouterr().out
    assert read_adapter(result.best).meta.organs == ("egg", "lens") and "dice" in result.metrics
    alone = train_adapter(one_sided["val"], tmp_path / "alone", of("structure", organs="lens"))
    assert read_adapter(alone.best).meta.organs == ("lens",) and "dice" not in alone.metrics


def test_learning_by_heart_takes_only_what_training_patients_have(one_sided: dict[str, Path]) -> None:
    options = of("structure", overfit=2).of_stage("structure")
    ready = ready_stage(one_sided["train"], options)
    slices = train_module.stage_slices(ready, one_sided["train"], options)
    assert len(slices) == 2


def test_all_is_not_resumed_over_another_structure(data_root: Path, tmp_path: Path) -> None:
    train_adapter(data_root, tmp_path / "run", of("all"))
    other = train_adapter(data_root, tmp_path / "other", of("structure", seed=5))
    add_to_set(other.best, tmp_path / "run" / "best")
    shutil.rmtree(tmp_path / "run" / "structure")
    shutil.copytree(tmp_path / "other", tmp_path / "run" / "structure")
    again = dataclasses.replace(of("all", seed=5), resume=True)
    with pytest.raises(ValueError, match="beside"):
        train_adapter(data_root, tmp_path / "run", again)


@pytest.mark.parametrize("stage", STAGES)
def test_overfitting_that_fails_is_an_error_with_what_was_reached(
    data_root: Path, tmp_path: Path, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages_module, "OVERFIT_REPEATS", 1)
    with pytest.raises(ValueError, match=rf"overfitting the stage {stage}: .* Dice .* not reached"):
        train_adapter(data_root, tmp_path / "run", of(stage, overfit=1, lr=1e-9))


def test_overfitting_that_succeeds_says_so(
    data_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # What a random model can reach says nothing about shapes; that its loss falls says that it learns.
    monkeypatch.setitem(GOALS, "structure", Goal(share=0.9, dice=0.0))
    options = of("structure", overfit=1, lr=0.02, epochs=2, lora_alpha=8.0)
    train_adapter(data_root, tmp_path / "run", options)
    assert "overfitting the stage structure: loss" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("after", "reached"),
    [({"loss": 0.1, "dice": 0.99}, True), ({"loss": 0.99, "dice": 0.99}, False), ({"loss": 0.1, "dice": 0.1}, False)],
)
def test_the_goal_is_a_drop_of_the_loss_and_a_dice(after: dict[str, float], reached: bool) -> None:
    check: Callable[[], str] = lambda: check_learnt("structure", {"loss": 1.0, "dice": 0.2}, after)  # noqa: E731
    if reached:
        assert "loss 1 -> 0.1, 10.0% of it" in check()
    else:
        with pytest.raises(ValueError, match="not reached"):
            check()


def test_wrong_use_is_one_line(data_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["train", "--data_root", str(data_root), "--checkpoint_dir", str(tmp_path / "run"), "--device", "cpu"]
    assert main([*line, "--stage", "decodr"]) != 0
    assert "stage is one of structure, latent, decoder, all" in capsys.readouterr().err
    assert main([*line, "--method", "full", "--base_dtype", "bf16"]) != 0
    assert "is for a frozen base" in capsys.readouterr().err
    assert main([*line, "--stage", "all", "--compile"]) != 0
    assert "would be compiled anew for each; got stage all" in capsys.readouterr().err
    assert main([*line, "--base_dtype", "int8"]) == FAILED
    assert "pip install torchao" in capsys.readouterr().err
