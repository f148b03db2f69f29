"""The latent stage: what a batch is, what the loss sees, exactly what moves, and cached tokens."""

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor

from sam3d_objects.adapter import load_adapter
from sam3d_objects.dataset import Augment, TS_SAM3D_Dataset
from sam3d_objects.model import SAM3DObjects
from sam3d_objects.model.sparse import SparseGrid, SparseTensor
from sam3d_objects.training import LoopOptions, MedicalTrainer, ValidationSlices, contract_of
from sam3d_objects.training.stages.latent import LatentFlowStage, repeated
from sam3d_objects.training.stages.latent_options import LatentOptions
from sam3d_objects.training.targets import SurfaceDistance
from sam3d_objects.training.targets import latent as latent_module
from tests.training.small_model import whole_model


@pytest.fixture(autouse=True)
def quick_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    """The surfaces of random weights are jagged, and slow to measure."""
    monkeypatch.setattr(latent_module, "distance_between", lambda *_: SurfaceDistance(0.01, 0.02))


@pytest.fixture(scope="module")
def targets_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("targets")


def latent_stage(data_root: Path, targets_folder: Path, **options: Any) -> LatentFlowStage:
    model = whole_model()
    train = TS_SAM3D_Dataset(data_root, "train", augment=Augment(), variants=2)
    validation = ValidationSlices(TS_SAM3D_Dataset(data_root, "val"), seed=0)
    chosen = LatentOptions(**{"target_distance_bar": 0.0, **options})
    return LatentFlowStage(model, train, validation, targets_folder, contract_of(train, model), chosen)


def prepared(data_root: Path, targets_folder: Path, **options: Any) -> LatentFlowStage:
    stage = latent_stage(data_root, targets_folder, **options)
    stage.set_trainable()
    stage.prepare(torch.device("cpu"), lambda text: None)
    return stage


def trainer(stage: LatentFlowStage, folder: Path, **options: Any) -> MedicalTrainer:
    chosen = LoopOptions(**{"epochs": 2, "batch_size": 4, "device": "cpu", "lr": 0.01, **options})
    return MedicalTrainer(stage, chosen, folder, console=Console(file=io.StringIO()))


def state(model: SAM3DObjects) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name, value in after.items() if not torch.equal(value, before[name])}


class Spy(torch.nn.Module):
    """A network that remembers what it was called with and answers zero."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[SparseTensor, Tensor, Tensor]] = []

    def forward(self, latents: Tensor, coordinates: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        self.calls.append((SparseTensor(latents, SparseGrid(coordinates, len(t))), t, condition))
        return torch.zeros_like(latents)


def test_a_batch_is_packed_and_normalised(data_root: Path, targets_folder: Path) -> None:
    stage = prepared(data_root, targets_folder)
    samples = [stage.shapes.train[i] for i in range(4)]
    batch = stage.make_batch(samples)
    assert {name for name in batch if name.startswith("condition.")} == {
        f"condition.{name}" for name in ("image", "rgb_image", "mask", "rgb_image_mask")
    }
    grid = SparseGrid(batch["coordinates"], 4)
    assert batch["latents"].shape == (len(grid), 8) and batch["latents"].dtype == torch.float32
    made = {key: target for key, target in zip(stage.shapes.keys, _targets(stage), strict=True)}
    settings = stage.latent_stage.settings
    for i, sample in enumerate(samples):
        target, rows = made[sample.case, sample.organ, sample.variant], slice(grid.offsets[i], grid.offsets[i + 1])
        assert torch.equal(batch["coordinates"][rows, 1:], target.coordinates[:, 1:])
        back = batch["latents"][rows] * torch.tensor(settings.std) + torch.tensor(settings.mean)
        torch.testing.assert_close(back, target.latents)


def _targets(stage: LatentFlowStage) -> Any:
    return stage.maker.targets(stage.shapes.mesh_object(key) for key in stage.shapes.keys)


def test_a_repeated_grid_has_each_sample_s_copies_after_each_other() -> None:
    coordinates = torch.tensor([[0, 1, 2, 3], [0, 4, 5, 6], [1, 7, 8, 9]], dtype=torch.int32)
    grid, rows = repeated(SparseGrid(coordinates, 2), 2)
    assert rows.tolist() == [0, 1, 0, 1, 2, 2]
    assert grid.coordinates[:, 0].tolist() == [0, 0, 1, 1, 2, 3] and grid.counts == [2, 2, 1, 1]
    assert torch.equal(grid.coordinates[:, 1:], coordinates[rows, 1:])


def test_the_loss_is_the_mean_over_samples_of_what_flow_matching_says(data_root: Path, targets_folder: Path) -> None:
    stage = prepared(data_root, targets_folder, draws=3, condition_dropout=0.5)
    batch = stage.make_batch([stage.shapes.train[i] for i in (0, 4, 8)])
    draws = stage.draw(3, torch.Generator().manual_seed(0))
    draws["kept"] = torch.tensor([1.0, 0.0, 1.0])
    spy = Spy()
    loss, _ = stage.loss(spy, batch, draws)
    ((x, t, condition),) = spy.calls
    assert condition.shape[0] == len(t) == x.grid.batch == 9
    assert torch.equal(t.view(3, 3), 1000 * draws["t"]) and t.unique().numel() == 9
    assert (condition.abs().sum(dim=(1, 2)) == 0).tolist() == [False] * 3 + [True] * 3 + [False] * 3
    # The answer is zero, so each sample's error is the mean square of data - noise; x_t gives the noise back.
    offsets, data = SparseGrid(batch["coordinates"], 3).offsets, batch["latents"]
    errors = []
    for number, (start, stop) in enumerate(zip(x.grid.offsets, x.grid.offsets[1:], strict=False)):
        at, one = t[number] / 1000, data[offsets[number // 3] : offsets[number // 3 + 1]]
        noise = (x.features[start:stop] - at * one) / (1 - at)
        errors.append((one - noise).square().mean())
        assert abs(float(noise.std()) - 1) < 0.1
    assert loss.item() == pytest.approx(torch.stack(errors).mean().item(), rel=1e-4)


def test_draws_belong_to_their_samples(data_root: Path, targets_folder: Path) -> None:
    """Half the batch with half the draws: two processes see what one sees."""
    stage = prepared(data_root, targets_folder, draws=2)
    samples = [stage.shapes.train[i] for i in range(4)]
    draws = stage.draw(4, torch.Generator().manual_seed(1))
    flow = stage.module.eval()
    whole, _ = stage.loss(flow, stage.make_batch(samples), draws)
    halves = [
        stage.loss(flow, stage.make_batch(samples[part]), {name: value[part] for name, value in draws.items()})[0]
        for part in (slice(0, 2), slice(2, 4))
    ]
    assert whole.item() == pytest.approx(sum(half.item() for half in halves) / 2, rel=1e-6)


def test_validation_is_the_same_each_time_at_even_times(data_root: Path, targets_folder: Path) -> None:
    stage = prepared(data_root, targets_folder, condition_dropout=1.0)
    batch = stage.make_batch([stage.validation_samples[i] for i in range(3)])
    spies = [Spy(), Spy()]
    results = [stage.validate(spy, batch, stage.validation_draw(3, torch.Generator().manual_seed(3))) for spy in spies]
    assert results[0] == results[1]
    (x, t, condition), (again, *_) = spies[0].calls[0], spies[1].calls[0]
    assert torch.equal(x.features, again.features) and t.unique().numel() == 4 and len(t) == 12
    assert condition.abs().sum(dim=(1, 2)).min() > 0
    assert stage.score({}) is None and stage.score({"loss": 2.0}) == -2.0
    assert stage.score({"loss": 2.0, "assd_mm": 0.5}) == -0.5


def test_the_first_step_moves_every_b_the_second_every_a_and_nothing_else(
    data_root: Path, targets_folder: Path, tmp_path: Path
) -> None:
    stage = latent_stage(data_root, targets_folder, condition_dropout=0.0)
    loop = trainer(stage, tmp_path, batch_size=9, epochs=2, weight_decay=0.0)
    trainable = {f"latent.{name}" for name in loop.learner.parameters}
    a = {name for name in trainable if name.endswith("lora_A")}
    b = {name for name in trainable if name.endswith("lora_B")}
    assert len(a) == len(b) == 5  # to_qkv, to_out, and the cross-attention's to_q, to_kv, to_out
    assert trainable - a - b == {"latent.flow.out_layer.weight", "latent.flow.out_layer.bias"}
    start = state(stage.model)
    loop.train_epoch()
    first = state(stage.model)
    assert moved(start, first) == trainable - a
    loop.counters.next_epoch()
    loop.train_epoch()
    assert moved(first, state(stage.model)) == trainable


def test_training_lowers_the_loss_and_the_saved_adapter_is_the_trained_flow(
    data_root: Path, targets_folder: Path, tmp_path: Path
) -> None:
    stage = latent_stage(data_root, targets_folder)
    loop = trainer(stage, tmp_path / "run", epochs=4, lr=0.02, patience=0)
    result = loop.train()
    losses = [row["validation"]["loss"] for row in loop.counters.history]
    assert losses[-1] < 0.95 * losses[0]
    fresh = whole_model()
    flow = fresh.latent_stage.flow
    meta = load_adapter(result.last, flow, base_fingerprint=fresh.latent_stage.fingerprint)
    assert (meta.stage, meta.organs, meta.base_fingerprint) == ("latent", ("egg",), "1" * 64)
    assert meta.training["latent"]["source"] == "encoder"
    assert not moved(state(stage.model), state(fresh))


def test_cached_tokens_give_the_same_losses(
    data_root: Path, targets_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = prepared(data_root, targets_folder)
    cached = prepared(data_root, targets_folder, cache_epochs=2)
    monkeypatch.setattr(cached.latent_stage, "embed", lambda inputs: pytest.fail("embedded again"))
    draws = plain.draw(4, torch.Generator().manual_seed(2))
    losses = []
    for stage in (plain, cached):
        for epoch in (0, 1):
            stage.train_samples.set_epoch(epoch)
            samples = [stage.train_samples[i] for i in (5, 1, 7, 3)]
            losses.append(stage.loss(stage.module.eval(), stage.make_batch(samples), draws)[0].item())
    assert losses[:2] == pytest.approx(losses[2:], rel=1e-6) and losses[0] != losses[1]
    plain.train_samples.set_epoch(0)
    cached.train_samples.set_epoch(2)  # modulo 2
    assert plain.sample_names([plain.train_samples[3]]) == cached.sample_names([cached.train_samples[3]])


def test_poor_targets_are_refused_by_name(data_root: Path, targets_folder: Path) -> None:
    stage = latent_stage(data_root, targets_folder, target_distance_bar=0.001)
    with pytest.raises(ValueError, match=r"7 shapes have .* over 0.10 % of their size: p\d/egg/\d \(1.00\)"):
        stage.prepare(torch.device("cpu"), lambda text: None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 0}, "rank"),
        ({"method": "loda"}, "method is one of"),
        ({"draws": 0}, "draws must be at least 1"),
        ({"latent_source": "x"}, "latent_source must be one of auto, encoder, inversion"),
        ({"target_distance_bar": float("inf")}, "target_distance_bar must be 0 or more"),
        ({"cache_epochs": -1}, "cache_epochs"),
    ],
)
def test_bad_stage_options_say_what_they_may_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LatentOptions(**options)
