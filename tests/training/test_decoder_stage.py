"""The decoder stage: what a batch is, what its loss and validation measure, and exactly what moves."""

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from sam3d_objects.adapter import load_adapter
from sam3d_objects.dataset import TS_SAM3D_Dataset
from sam3d_objects.model import SAM3DObjects
from sam3d_objects.model.latent.settings import LatentSettings
from sam3d_objects.training import LoopOptions, MedicalTrainer, ValidationSlices, contract_of
from sam3d_objects.training.stages.decoder import DecoderStage
from sam3d_objects.training.stages.decoder_options import DecoderOptions
from sam3d_objects.training.stages.decoder_samples import ShapeSamples
from sam3d_objects.training.stages.decoder_terms import DECODER_WEIGHTS
from sam3d_objects.training.targets import InversionOptions
from tests.training.small_model import whole_model

CPU = torch.device("cpu")


def decoder_stage(
    model: SAM3DObjects, data_root: Path, folder: Path, most: int | None = None, **options: Any
) -> DecoderStage:
    """Of the first `most` training organs, or of all three, and the one that validates."""
    train = TS_SAM3D_Dataset(data_root, "train")
    train.pairs = train.pairs[:most]
    validation = ValidationSlices(TS_SAM3D_Dataset(data_root, "val"), seed=0)
    chosen = DecoderOptions(**{"target_distance_bar": 0.0, "corners": 300, "points": 200, **options})
    return DecoderStage(model, train, validation, folder / "targets", contract_of(train, model), chosen)


def prepared(
    model: SAM3DObjects, data_root: Path, folder: Path, most: int | None = None, **options: Any
) -> DecoderStage:
    stage = decoder_stage(model, data_root, folder, most, **options)
    stage.set_trainable()
    stage.prepare(CPU, print)
    return stage


def trainer(stage: DecoderStage, folder: Path, **options: Any) -> MedicalTrainer:
    chosen = LoopOptions(**{"epochs": 2, "batch_size": 3, "device": "cpu", "lr": 0.01, **options})
    return MedicalTrainer(stage, chosen, folder, console=Console(file=io.StringIO()))


def state(model: SAM3DObjects) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name, value in after.items() if not torch.equal(value, before[name])}


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="session")
def targets(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose `targets` are made, for the model of these tests."""
    folder = tmp_path_factory.mktemp("decoder")
    prepared(whole_model(latent_side=8), data_root, folder)
    return folder


def test_a_batch_packs_the_voxels_of_its_shapes(data_root: Path, targets: Path) -> None:
    stage = prepared(whole_model(latent_side=8), data_root, targets)
    keys = [stage.keys[3], stage.keys[0]]
    batch = stage.make_batch(keys)
    counts = [len(stage.targets[key].latents) for key in keys]
    assert batch["coordinates"][:, 0].tolist() == [0] * counts[0] + [1] * counts[1]
    assert torch.equal(batch["coordinates"][counts[0] :, 1:], stage.targets[keys[1]].coordinates[:, 1:])
    assert batch["latents"].shape == (sum(counts), 8) and batch["interior"].shape == (2, 8, 8, 8)
    assert [stage.keys[index] for index in batch["shape"].tolist()] == keys
    assert stage.sample_names(keys) == ["/".join(map(str, key)) for key in keys]


def test_the_loss_of_a_batch_is_the_mean_over_its_shapes(data_root: Path, targets: Path) -> None:
    """So it does not matter which process has which shape."""
    stage = prepared(whole_model(latent_side=8), data_root, targets, weights=dict.fromkeys(DECODER_WEIGHTS, 1.0))
    keys, draws = stage.keys[:3], stage.draw(3, generator())
    assert all(len(tensor) == 3 for tensor in draws.values())
    loss, parts = stage.loss(stage.module, stage.make_batch(keys), draws)
    assert set(parts) == set(DECODER_WEIGHTS)
    assert loss.item() == pytest.approx(sum(part.item() for part in parts.values()))
    alone = [
        stage.loss(stage.module, stage.make_batch([key]), {name: x[row : row + 1] for name, x in draws.items()})[0]
        for row, key in enumerate(keys)
    ]
    assert loss.item() == pytest.approx(torch.stack(alone).mean().item(), rel=1e-5)
    again, _ = stage.loss(stage.module, stage.make_batch(keys), draws)
    assert again.item() == loss.item()


@pytest.mark.parametrize("train_heads", [False, True])
def test_the_first_step_moves_every_b_the_second_every_a_and_nothing_else(
    data_root: Path, targets: Path, tmp_path: Path, train_heads: bool
) -> None:
    model = whole_model(latent_side=8)
    stage = decoder_stage(model, data_root, targets, train_heads=train_heads)
    loop = trainer(stage, tmp_path)
    trainable = {f"latent.mesh_{name}" for name in loop.learner.parameters}
    a = {name for name in trainable if name.endswith("lora_A")}
    b = {name for name in trainable if name.endswith("lora_B")}
    heads = {f"latent.mesh_decoder.out_layer.{kind}" for kind in ("weight", "bias")} if train_heads else set()
    assert a == {f"latent.mesh_decoder.blocks.0.attn.{layer}.lora_A" for layer in ("to_qkv", "to_out")}
    assert len(b) == 2 and trainable == a | b | heads
    start = state(model)
    loop.train_epoch()
    first = state(model)
    assert moved(start, first) == b | heads
    loop.counters.next_epoch()
    loop.train_epoch()
    assert moved(first, state(model)) == trainable


def test_training_fully_moves_the_decoder_and_nothing_else(data_root: Path, targets: Path, tmp_path: Path) -> None:
    model = whole_model(latent_side=8)
    stage = decoder_stage(model, data_root, targets, method="full")
    loop, start = trainer(stage, tmp_path), state(model)
    loop.train_epoch()
    names = {name for name in start if name.startswith("latent.mesh_decoder.")}
    assert moved(start, state(model)) == names


def test_one_batch_is_overfitted(data_root: Path, targets: Path) -> None:
    """The surface that random weights make draws near to the organ's, in the distance that validation measures."""
    torch.manual_seed(0)
    stage = prepared(whole_model(latent_side=8), data_root, targets, train_heads=True, rank=8, alpha=16.0)
    batch, drawn = stage.make_batch(stage.keys[:1]), generator()
    optimizer = torch.optim.AdamW([p for p in stage.module.parameters() if p.requires_grad], lr=0.03)

    @torch.no_grad()
    def measured() -> dict[str, Tensor]:
        return stage.validate(stage.module, batch, stage.validation_draw(1, generator()))

    before = measured()
    for _ in range(20):
        loss, _ = stage.loss(stage.module, batch, stage.draw(1, drawn))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    after = measured()
    assert after["loss"] < 0.5 * before["loss"]
    assert after["decoded_assd_mm"] < 0.65 * before["decoded_assd_mm"]


def test_validation_measures_what_inference_decodes(data_root: Path, targets: Path) -> None:
    stage = prepared(whole_model(latent_side=8), data_root, targets)
    keys = [stage.keys[0], stage.keys[-1]]
    found = stage.validate(stage.module, stage.make_batch(keys), stage.validation_draw(2, generator()))
    # A fresh adapter is its base, whose distance was measured when the targets were made.
    distances = [stage.targets[key].distance.mean for key in keys]
    assert found["decoded_assd"].item() == pytest.approx(sum(distances) / 2, rel=1e-4)
    in_mm = [distance * stage.shapes.size_mm(key) for distance, key in zip(distances, keys, strict=True)]
    assert found["decoded_assd_mm"].item() == pytest.approx(sum(in_mm) / 2, rel=1e-4)
    assert {"loss", "sign", "chamfer", "regulariser"} < set(found)


class Outside(nn.Module):
    """A decoder to which every corner is outside."""

    def forward(self, latents: Tensor, coordinates: Tensor, count: int) -> Tensor:
        return torch.ones(64 * len(latents), 101, requires_grad=True)


def test_a_shape_of_which_nothing_is_decoded_counts_as_far_as_it_is_long(data_root: Path, targets: Path) -> None:
    stage = prepared(whole_model(latent_side=8), data_root, targets)
    batch = stage.make_batch(stage.keys[:1])
    batch["interior"] = torch.zeros_like(batch["interior"])
    found = stage.validate(Outside(), batch, stage.validation_draw(1, generator()))
    assert found["decoded_assd"].item() == 1.0
    assert found["decoded_assd_mm"].item() == pytest.approx(stage.shapes.size_mm(stage.keys[0]))
    assert found["chamfer"].item() == 0.0 and torch.isfinite(found["loss"])


def test_targets_and_scale_are_the_bases_also_when_the_decoder_is_half_trained(
    data_root: Path, targets: Path, tmp_path: Path
) -> None:
    before = prepared(whole_model(latent_side=8), data_root, targets, most=1)
    stage = decoder_stage(whole_model(latent_side=8), data_root, tmp_path, most=1, train_heads=True)
    stage.set_trainable()
    with torch.no_grad():
        for parameter in stage.module.parameters():
            if parameter.requires_grad:
                parameter.fill_(0.3)
    stage.prepare(CPU, print)
    assert stage.scale == before.scale
    for key, target in stage.targets.items():
        assert torch.equal(target.latents, before.targets[key].latents)
        assert target.distance == before.targets[key].distance


def test_the_released_layout_trains_as_well(data_root: Path, tmp_path: Path) -> None:
    model = whole_model("surface", latent_side=8)
    model.latent_stage.settings = LatentSettings()  # the release's: features of views, so inversion
    stage = prepared(model, data_root, tmp_path, most=1, inversion=InversionOptions(steps=1))
    assert stage.maker.source == "inversion"
    loss, parts = stage.loss(stage.module, stage.make_batch(stage.keys[:2]), stage.draw(2, generator()))
    loss.backward()
    gradients = [p.grad for p in stage.module.parameters() if p.requires_grad]
    assert set(parts) == {"sign", "chamfer", "regulariser"} and any(g is not None and g.any() for g in gradients)


def test_training_lowers_the_distance_and_the_saved_adapter_is_the_trained_decoder(
    data_root: Path, targets: Path, tmp_path: Path
) -> None:
    model = whole_model(latent_side=8)
    stage = decoder_stage(model, data_root, targets, most=1, train_heads=True)
    loop = trainer(stage, tmp_path / "run", epochs=12, lr=0.03, patience=0, validate_every=12)
    result = loop.train()
    key = stage.validation_samples[0]
    untrained_mm = stage.targets[key].distance.mean * stage.shapes.size_mm(key)
    assert result.metrics["decoded_assd_mm"] < 0.9 * untrained_mm
    assert stage.score(result.metrics) == -result.metrics["decoded_assd_mm"] and stage.score({}) is None
    assert stage.score({"assd_mm": 2.0, "decoded_assd_mm": 1.0}) == -2.0
    fresh = whole_model(latent_side=8)
    decoder, fingerprint = fresh.latent_stage.mesh_decoder, fresh.latent_stage.fingerprint
    meta = load_adapter(result.last, decoder, base_fingerprint=fingerprint)
    assert meta.stage == "decoder" and meta.organs == ("egg",)
    assert not moved(state(model), state(fresh))


def test_an_epoch_has_each_organ_once_and_cuts_no_slice(data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = TS_SAM3D_Dataset(data_root, "train", variants=4)
    monkeypatch.setattr(TS_SAM3D_Dataset, "__getitem__", None)
    samples = ShapeSamples(dataset)
    epochs = []
    for epoch in range(8):
        samples.set_epoch(epoch)
        epochs.append([samples[index] for index in range(len(samples))])
        assert [key[:2] for key in epochs[-1]] == dataset.pairs
    assert {key[2] for keys in epochs for key in keys} == {0, 1, 2, 3}
    samples.set_epoch(3)
    assert [samples[index] for index in range(len(samples))] == epochs[3]


def test_poor_targets_and_shared_patients_are_refused(data_root: Path, targets: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"surface distance over 0.10 % of their size: p\d/egg/\d"):
        prepared(whole_model(latent_side=8), data_root, targets, target_distance_bar=0.001)
    train, model = TS_SAM3D_Dataset(data_root, "train"), whole_model(latent_side=8)
    with pytest.raises(ValueError, match="both in training and in validation: p"):
        DecoderStage(model, train, ValidationSlices(train, seed=0), tmp_path, contract_of(train, model))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 0}, "rank"),
        ({"method": "prompt"}, "method is one of"),
        ({"corners": 0}, "corners must be at least 1"),
        ({"weights": {"chamfr": 1.0}}, "no term 'chamfr'.*chamfer"),
        ({"weights": {"sign": -1.0}}, "'sign'.*must be 0 or more"),
        ({"weights": dict.fromkeys(DECODER_WEIGHTS, 0.0)}, "above 0 for some term"),
        ({"latent_source": "views"}, "latent_source must be one of"),
    ],
)
def test_bad_options_say_what_they_may_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DecoderOptions(**options)


def test_a_weight_that_is_not_named_keeps_its_default() -> None:
    assert DecoderOptions(weights={"sdf": 0.5}).weights == {**DECODER_WEIGHTS, "sdf": 0.5}
