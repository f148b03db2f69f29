"""The structure flow's paths: what is drawn, how batches add up, the self-consistency term, and cached tokens."""

from pathlib import Path

import pytest
import torch

from sam3d_objects.dataset import Augment, TS_SAM3D_Dataset
from sam3d_objects.model import SAM3DObjects
from sam3d_objects.training import StructureOptions, StructureStage, contract_of
from sam3d_objects.training.stages import structure_loss
from sam3d_objects.training.stages.structure_loss import draw_paths, path_loss
from sam3d_objects.training.targets import structure as structure_targets
from sam3d_objects.training.tokens import ConditionCache
from tests.training.small_model import WIDTH, small_model


def drawn_batch(model: SAM3DObjects, options: StructureOptions, count: int) -> tuple[dict, torch.Tensor, dict]:
    generator = torch.Generator().manual_seed(3)
    shapes = model.latent_shapes(count)
    latents = {name: torch.randn(shapes[name], generator=generator) for name in shapes}
    condition = torch.randn(count, 5, WIDTH, generator=generator)
    return latents, condition, draw_paths(model.latent_shapes(1), count, options, generator)


def test_no_two_steps_of_the_teacher_end_after_one() -> None:
    options = StructureOptions(shortcut_weight=1.0, draws=4)
    draws = draw_paths({"shape": (1, 2, 3)}, 2000, options, torch.Generator().manual_seed(0))
    t, d, guided = draws["t"], draws["d"], draws["guided"]
    assert draws["noise.shape"].shape == (2000, 4, 2, 3)
    assert (t + 2 * d <= 1).all() and (t >= 0).all()
    steps = (t / (2 * d))[d > 0]
    assert torch.equal(steps, steps.round()), "the student's steps start at multiples of their size"
    assert (d > 0).float().mean() == pytest.approx(0.25, abs=0.02)
    assert guided[d > 0].mean() == pytest.approx(0.25, abs=0.04) and guided[d == 0].sum() == 0


@pytest.mark.parametrize("shortcut_weight", [0.0, 0.7])
def test_the_loss_of_a_batch_is_the_mean_of_its_parts(shortcut_weight: float) -> None:
    model = small_model()
    options = StructureOptions(shortcut_weight=shortcut_weight, draws=3)
    latents, condition, draws = drawn_batch(model, options, 6)
    kept = torch.tensor([1.0, 1, 0, 1, 1, 1])

    def loss(rows: slice) -> float:
        part = {name: value[rows] for name, value in latents.items()}
        drawn = {name: value[rows] for name, value in draws.items()}
        return float(path_loss(model.structure_flow, part, condition[rows], kept[rows], drawn, options)[0])

    with torch.no_grad():
        whole, first, rest = loss(slice(0, 6)), loss(slice(0, 2)), loss(slice(2, 6))
    assert whole == pytest.approx((2 * first + 4 * rest) / 6, rel=1e-5)


def test_self_consistency_is_an_own_term_with_its_weight() -> None:
    model = small_model()
    totals = []
    for weight in (0.5, 1.5):
        options = StructureOptions(shortcut_weight=weight, draws=3)
        latents, condition, draws = drawn_batch(model, options, 6)
        with torch.no_grad():
            total, parts = path_loss(model.structure_flow, latents, condition, torch.ones(6), draws, options)
        assert parts["self_consistency"] > 0
        assert float(total) == pytest.approx(
            float(parts["flow_matching"] + weight * parts["self_consistency"]), rel=1e-6
        )
        totals.append(float(total))
    assert totals[0] < totals[1]


def test_spread_weights_are_refused_before_processes_wait_for_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(structure_loss, "sharded", lambda network: True)
    model = small_model()
    plain, consistent = StructureOptions(draws=2), StructureOptions(shortcut_weight=1.0, draws=2)
    latents, condition, draws = drawn_batch(model, plain, 2)
    with torch.no_grad():
        path_loss(model.structure_flow, latents, condition, torch.ones(2), draws, plain)  # one call in any process
    latents, condition, draws = drawn_batch(model, consistent, 2)
    with pytest.raises(ValueError, match=r"shortcut_weight 1 does not go with weights .* take strategy ddp"):
        path_loss(model.structure_flow, latents, condition, torch.ones(2), draws, consistent)


def test_a_flow_without_step_sizes_has_no_self_consistency(
    model: SAM3DObjects, data_root: Path, tmp_path: Path
) -> None:
    train = TS_SAM3D_Dataset(data_root, "train")
    model.structure_flow.d_embedder = None
    with pytest.raises(ValueError, match="takes no step sizes"):
        StructureStage(model, train, None, tmp_path, contract_of(train, model), StructureOptions(shortcut_weight=1.0))


def test_cached_tokens_give_the_same_losses(
    model: SAM3DObjects, data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = []
    for epochs in (0, 2):
        train = TS_SAM3D_Dataset(data_root, "train", augment=Augment(), variants=2)
        options = StructureOptions(target_iou_bar=0.0, cache_epochs=epochs)
        stages.append(StructureStage(model, train, None, tmp_path, contract_of(train, model), options))
        stages[-1].prepare(torch.device("cpu"), lambda text: None)
    plain, cached = stages
    draws = plain.draw(4, torch.Generator().manual_seed(2))
    losses = []
    for stage in stages:
        if stage is cached:
            monkeypatch.setattr(model, "embed", lambda *a, **k: pytest.fail("embedded again"))
        for epoch in (0, 1):
            stage.train_samples.set_epoch(epoch)
            samples = [stage.train_samples[i] for i in (5, 1, 7, 3)]
            losses.append(stage.loss(stage.module.eval(), stage.make_batch(samples), draws)[0].item())
    assert losses[:2] == pytest.approx(losses[2:], rel=1e-5) and losses[0] != losses[1]


@pytest.mark.parametrize("change", ["_LAYOUT", "SOLID_SUPERSAMPLE"])
def test_cached_rows_belong_to_the_targets_in_them(
    model: SAM3DObjects, data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    def folder() -> Path:
        train = TS_SAM3D_Dataset(data_root, "train")
        stage = StructureStage(
            model, train, None, tmp_path, contract_of(train, model), StructureOptions(cache_epochs=1)
        )
        assert isinstance(stage.train_samples, ConditionCache)
        return stage.train_samples.folder

    before = folder()
    assert folder() == before
    monkeypatch.setattr(structure_targets, change, "made otherwise")
    assert folder() != before
