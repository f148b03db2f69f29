"""The structure stage: what a batch is, what the loss sees, and exactly what moves."""

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor

from sam3d_objects.adapter import load_adapter
from sam3d_objects.dataset import Augment, TS_SAM3D_Dataset
from sam3d_objects.mesh import Mesh, occupancy_grid
from sam3d_objects.model import SAM3DObjects
from sam3d_objects.model.preprocess import PointmapStatistics
from sam3d_objects.training import (
    LoopOptions,
    MedicalTrainer,
    StructureOptions,
    StructureStage,
    ValidationSlices,
    contract_of,
)
from sam3d_objects.training.scene_scale import typical_scene_scale_mm
from sam3d_objects.training.tokens import CachedRow
from tests.training.small_model import small_model


def structure_stage(model: SAM3DObjects, data_root: Path, folder: Path, **options: Any) -> StructureStage:
    train = TS_SAM3D_Dataset(data_root, "train", augment=Augment(), variants=2)
    validation = ValidationSlices(TS_SAM3D_Dataset(data_root, "val"), seed=0)
    chosen = StructureOptions(**{"target_iou_bar": 0.0, **options})
    return StructureStage(model, train, validation, folder / "targets", contract_of(train, model), chosen)


def trainer(stage: StructureStage, folder: Path, **options: Any) -> MedicalTrainer:
    chosen = LoopOptions(**{"epochs": 2, "batch_size": 4, "device": "cpu", "lr": 0.01, **options})
    return MedicalTrainer(stage, chosen, folder, console=Console(file=io.StringIO()))


def state(model: SAM3DObjects) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name, value in after.items() if not torch.equal(value, before[name])}


def test_a_batch_holds_the_pose_and_the_target_of_each_sample(
    model: SAM3DObjects, data_root: Path, tmp_path: Path
) -> None:
    stage = structure_stage(model, data_root, tmp_path)
    trainer(stage, tmp_path)._prepare()
    samples = [stage.train_samples[i] for i in range(len(stage.train_samples))]
    assert {sample.variant for sample in samples} == {0, 1}
    batch = stage.make_batch(samples)
    assert batch["latent.shape"].shape == (9, 8, 64)
    assert batch["condition.image"].shape == (9, 3, 28, 28)
    assert all(tensor.dtype == torch.float32 for tensor in batch.values())
    for i, sample in enumerate(samples):
        latents = {name: batch[f"latent.{name}"][i] for name in model.latent_shapes(1)}
        inputs = model.condition_inputs(
            sample.image01, sample.slice.mask, sample.pointmap, sample.camera.camera_axes[2]
        )
        pose = model.pose_from_tokens(latents, inputs.scene)
        assert pose.size == pytest.approx(sample.frame.size_mm, rel=1e-5)
        center_mm = sample.camera.to_patient(pose.translation.numpy())
        assert center_mm == pytest.approx(sample.frame.center_mm, abs=1e-3)
        rotation = torch.from_numpy(sample.camera.object_rotation()).T
        torch.testing.assert_close(pose.rotation, rotation, atol=1e-5, rtol=0)

        mesh = stage.shapes.train.geometry(sample.case, sample.organ, sample.variant)
        shape = Mesh(sample.frame.to_object(mesh.vertices), mesh.faces)
        grid = torch.from_numpy(occupancy_grid(shape, 16, "solid"))[None, None]
        with torch.no_grad():
            torch.testing.assert_close(latents["shape"], model.encode_structure(grid)[0])


def test_the_first_step_moves_every_b_the_second_every_a_and_nothing_else(
    model: SAM3DObjects, data_root: Path, tmp_path: Path
) -> None:
    stage = structure_stage(model, data_root, tmp_path, condition_dropout=0.0)
    loop = trainer(stage, tmp_path, batch_size=9, epochs=2, weight_decay=0.0)
    trainable = {f"structure_flow.{name}" for name in loop.learner.parameters}
    a = {name for name in trainable if name.endswith("lora_A")}
    b = {name for name in trainable if name.endswith("lora_B")}
    heads = trainable - a - b
    # Two blocks; in each to_qkv, to_out, and the cross-attention's to_q, to_kv, to_out, in both streams.
    assert len(a) == len(b) == 2 * 2 * 5
    assert heads == {
        f"structure_flow.latent_mapping.{name}.out_layer.{kind}"
        for name in ("shape", "6drotation_normalized", "translation", "scale")
        for kind in ("weight", "bias")
    }
    start = state(model)
    loop.train_epoch()
    first = state(model)
    assert moved(start, first) == b | heads
    loop.counters.next_epoch()
    loop.train_epoch()
    assert moved(first, state(model)) == trainable


class Spy(torch.nn.Module):
    """A network that remembers what it was called with and answers zero."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[dict[str, Tensor], Tensor, Tensor, Tensor]] = []

    def forward(self, x: dict[str, Tensor], t: Tensor, condition: Tensor, d: Tensor) -> dict[str, Tensor]:
        self.calls.append((x, t, condition, d))
        return {name: torch.zeros_like(value) for name, value in x.items()}


def test_draws_share_one_embedding_and_dropout_zeroes_the_condition(
    model: SAM3DObjects, data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = structure_stage(model, data_root, tmp_path, draws=3, condition_dropout=0.5)
    trainer(stage, tmp_path)._prepare()
    batch = stage.make_batch([stage.train_samples[i] for i in range(4)])
    embed, embedded = model.embed, []

    def counting(inputs: dict[str, Tensor], drop_pointmap: bool) -> Tensor:
        embedded.append(drop_pointmap)
        return embed(inputs, drop_pointmap)

    monkeypatch.setattr(model, "embed", counting)
    spy = Spy()
    loss, parts = stage.loss(spy, batch, stage.draw(4, torch.Generator().manual_seed(0)))
    assert embedded == [False] and len(spy.calls) == 1
    x, t, condition, d = spy.calls[0]
    assert x["shape"].shape == (12, 8, 64) and condition.shape[0] == 4  # one condition serves its three draws
    assert t.unique().numel() == 12 and t.min() > 0 and t.max() < 1000 and not d.any()
    dropped = (condition == 0).all(dim=(1, 2))
    assert 0 < dropped.sum() < 4
    tokens = embed({name[10:]: value for name, value in batch.items() if name.startswith("condition.")})
    for i in range(4):
        assert torch.equal(condition[i], tokens[i] * 0 if dropped[i] else tokens[i])
    # The answer is zero, so the loss is the weighted mean square of data - noise, about 1 + data^2 each.
    assert loss.item() == pytest.approx(sum(part.item() for part in parts.values()))
    assert set(parts) == {"shape", "6drotation_normalized", "translation", "scale"}
    assert parts["shape"].item() > 0.9


def test_validation_is_the_same_each_time_and_keeps_every_condition(
    model: SAM3DObjects, data_root: Path, tmp_path: Path
) -> None:
    stage = structure_stage(model, data_root, tmp_path, condition_dropout=1.0)
    trainer(stage, tmp_path)._prepare()
    batch = stage.make_batch([stage.validation_samples[i] for i in range(6)])
    spies = [Spy(), Spy()]
    draws = [stage.validation_draw(6, torch.Generator().manual_seed(3)) for _ in spies]
    results = [stage.validate(*of_one) for of_one in zip(spies, [batch] * 2, draws, strict=True)]
    assert results[0] == results[1]
    (x, t, condition, _), (again, *_) = spies[0].calls[0], spies[1].calls[0]
    assert torch.equal(x["shape"], again["shape"]) and t.unique().numel() == 4
    assert condition.abs().sum(dim=(1, 2)).min() > 0


def test_training_lowers_the_loss_and_the_saved_adapter_is_the_trained_model(
    model: SAM3DObjects, data_root: Path, tmp_path: Path
) -> None:
    stage = structure_stage(model, data_root, tmp_path)
    loop = trainer(stage, tmp_path / "run", epochs=6, lr=0.02, patience=0)
    result = loop.train()
    losses = [row["validation"]["loss"] for row in loop.counters.history]
    assert losses[-1] < 0.95 * losses[0]
    fresh = small_model()
    meta = load_adapter(result.last, fresh.structure_flow, base_fingerprint=fresh.fingerprint)
    assert meta.stage == "structure" and meta.organs == ("egg",) and meta.base_fingerprint == model.fingerprint
    trained = state(model)
    assert not moved(trained, state(fresh))
    assert meta.metrics["loss"] == losses[-1]


def test_a_killed_and_resumed_run_saves_the_same_adapter(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finals = []
    for name, kill_at in (("whole", None), ("killed", 4)):
        stage = structure_stage(small_model(), data_root, tmp_path)
        loop = trainer(stage, tmp_path / name, checkpoint_steps=1)
        if kill_at is not None:
            loss, calls = stage.loss, iter(range(99))

            def dying(*args: Any, loss: Any = loss, calls: Any = calls, kill_at: int = kill_at) -> Any:
                if next(calls) == kill_at:
                    raise KeyboardInterrupt
                return loss(*args)

            monkeypatch.setattr(stage, "loss", dying)
            with pytest.raises(KeyboardInterrupt):
                loop.train()
            loop = trainer(structure_stage(small_model(), data_root, tmp_path), tmp_path / name, checkpoint_steps=1)
        loop.train(resume=True)
        finals.append((tmp_path / name / "last" / "adapter_model.safetensors").read_bytes())
    assert finals[0] == finals[1]


def test_poor_targets_are_refused_by_name(model: SAM3DObjects, data_root: Path, tmp_path: Path) -> None:
    stage = structure_stage(model, data_root, tmp_path, target_iou_bar=0.99)
    with pytest.raises(ValueError, match=r"IoU under 0.99: p\d/egg/\d"):
        trainer(stage, tmp_path / "run").train()


def test_training_patients_do_not_validate(model: SAM3DObjects, data_root: Path, tmp_path: Path) -> None:
    train = TS_SAM3D_Dataset(data_root, "train")
    with pytest.raises(ValueError, match="both in training and in validation: p"):
        StructureStage(model, train, ValidationSlices(train, seed=0), tmp_path, contract_of(train, model))


def test_pointmap_tokens_are_dropped_as_the_contract_says(model: SAM3DObjects, data_root: Path, tmp_path: Path) -> None:
    train = TS_SAM3D_Dataset(data_root, "train")
    contract = contract_of(train, model, drop_pointmap=True)
    options = StructureOptions(drop_pointmap=True, target_iou_bar=0.0, condition_dropout=0.0)
    stage = StructureStage(model, train, None, tmp_path / "targets", contract, options)
    stage.prepare(torch.device("cpu"), print)
    spy = Spy()
    stage.loss(spy, stage.make_batch([train[0]]), stage.draw(1, torch.Generator()))
    zero = (spy.calls[0][2][0] == 0).all(dim=1)
    # Two pointmaps of 2 x 2 windows come last; images and masks have a cls and 2 x 2 patches, each twice.
    assert zero.tolist() == [False] * 20 + [True] * 8
    with pytest.raises(ValueError, match="pointmap is 'drop'"):
        StructureStage(model, train, None, tmp_path, contract, StructureOptions())


def test_one_scene_scale_serves_all_slices(model: SAM3DObjects, data_root: Path, tmp_path: Path) -> None:
    train = TS_SAM3D_Dataset(data_root, "train")
    stages = [
        StructureStage(
            *(model, train, None, tmp_path / "targets", contract_of(train, model, scene_scale_mm=scale_mm)),
            StructureOptions(target_iou_bar=0.0, cache_epochs=1),
        )
        for scale_mm in (0.0, 5.3)
    ]
    for stage in stages:
        stage.prepare(torch.device("cpu"), print)
    samples = [train[index] for index in range(len(train))]
    own, metric = ([stage.train_samples[index] for index in range(len(train))] for stage in stages)
    for sample, one, other in zip(samples, own, metric, strict=True):
        assert isinstance(one, CachedRow) and isinstance(other, CachedRow)
        assert not torch.equal(one.tensors["tokens"], other.tensors["tokens"]), "cached apart"
        latents = {name: other.tensors[f"latent.{name}"] for name in model.latent_shapes(1)}
        pose = model.pose_from_tokens(latents, PointmapStatistics(torch.zeros(3), 5.3))
        assert pose.size == pytest.approx(sample.frame.size_mm, rel=1e-5)


def test_the_typical_scene_scale_is_a_power_of_two_near_the_median(model: SAM3DObjects, data_root: Path) -> None:
    train = TS_SAM3D_Dataset(data_root, "train")
    scales_mm = [
        model.condition_inputs(one.image01, one.slice.mask, one.pointmap, one.camera.camera_axes[2]).scene.scale
        for one in (train[index] for index in range(len(train)))
    ]
    found_mm = typical_scene_scale_mm(train)
    assert found_mm in {2.0**power for power in range(10)}
    assert 2**-0.5 <= found_mm / sorted(scales_mm)[len(scales_mm) // 2] <= 2**0.5


def test_a_run_on_other_data_or_options_is_not_resumed(data_root: Path, tmp_path: Path) -> None:
    trainer(structure_stage(small_model(), data_root, tmp_path), tmp_path / "run", epochs=1).train()
    other = structure_stage(small_model(), data_root, tmp_path, rank=2)
    other.model.fingerprint = "1" * 64
    with pytest.raises(ValueError, match=r"stage.base.fingerprint[\s\S]*stage.structure.rank: the run has 4, now 2"):
        trainer(other, tmp_path / "run", epochs=1).train(resume=True)


def test_sample_names_tell_what_to_look_at(model: SAM3DObjects, data_root: Path, tmp_path: Path) -> None:
    stage = structure_stage(model, data_root, tmp_path)
    sample = stage.shapes.train.sample(*stage.shapes.train.pairs[0], "coronal", 12)
    assert stage.sample_names([sample]) == [f"{sample.case}/egg/coronal/12"]


def test_validation_slices_are_fixed_and_bounded(data_root: Path) -> None:
    dataset = TS_SAM3D_Dataset(data_root, "train")
    every = ValidationSlices(dataset, seed=0)
    assert len(every) == 3 * 3 * 2
    few = ValidationSlices(dataset, seed=0, most=4)
    assert len(few) == 4 and {name for name, *_ in few.slices} == {name for name, _ in dataset.pairs}
    assert few[0].image01.tolist() == few[0].image01.tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [({"rank": 0}, "rank"), ({"draws": 0}, "draws must be at least 1"), ({"time_std": 0.0}, "time_std")],
)
def test_bad_stage_options_say_what_they_may_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StructureOptions(**options)
