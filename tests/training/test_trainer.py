"""The loop: what it learns, what it moves, when it stops."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from sam3d_objects.training import LoopOptions, MedicalTrainer, NonFiniteLossError, Validated
from tests.training.toy_stage import ToyStage


def trainer(
    folder: Path,
    stage: ToyStage | None = None,
    validator: Any = None,
    text: io.StringIO | None = None,
    **options: Any,
) -> MedicalTrainer:
    chosen = LoopOptions(**{"epochs": 3, "batch_size": 2, "device": "cpu", "lr": 0.05, **options})
    console = Console(file=text or io.StringIO(), width=200)
    return MedicalTrainer(stage or ToyStage(), chosen, folder, validator=validator, console=console)


def weights(stage: ToyStage) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in stage.module.named_parameters()}


def test_it_learns_and_leaves_a_complete_folder(tmp_path: Path) -> None:
    text = io.StringIO()
    stage = ToyStage(train=16, dropout=0.0)
    result = trainer(tmp_path, stage, text=text, epochs=30, patience=0).train()
    history = json.loads((tmp_path / "history.json").read_text())
    assert len(history) == 30 and result.epochs == 30 and result.steps == 240
    assert history[-1]["validation"]["loss"] < 0.05 * history[0]["validation"]["loss"]
    assert result.metrics["loss"] == min(row["validation"]["loss"] for row in history)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["options"]["lr"] == 0.05 and config["stage"] == {"noise": 0.1, "data": "toy"}
    environment = json.loads((tmp_path / "environment.json").read_text())
    assert environment["torch"] == torch.__version__
    assert list((tmp_path / "tensorboard").iterdir())
    for name in ("best", "last"):
        assert (tmp_path / name / "adapter_model.safetensors").is_file()
    for wanted in (
        "the last layer is trained",
        "samples: 16",
        "left at most",
        "epoch 30 of 30",
        "done after",
    ):
        assert wanted in text.getvalue()


def test_only_what_is_trainable_moves(tmp_path: Path) -> None:
    stage = ToyStage()
    loop = trainer(tmp_path, stage)
    before = weights(stage)
    loop.train_epoch()
    moved = {name for name, value in weights(stage).items() if not torch.equal(value, before[name])}
    assert moved == {"2.weight", "2.bias"}


def test_accumulated_batches_equal_one_large_batch(tmp_path: Path) -> None:
    """7 samples: batches of 2 in threes (6, then 1 sample) against batches of 6 (6, then 1)."""
    final = []
    for name, (batch_size, accumulate) in (("a", (2, 3)), ("b", (6, 1))):
        stage = ToyStage(noise=0.0, dropout=0.0)
        result = trainer(tmp_path / name, stage, batch_size=batch_size, accumulate=accumulate).train()
        assert result.steps == 6
        final.append(weights(stage))
    for name, value in final[0].items():
        torch.testing.assert_close(value, final[1][name], rtol=1e-5, atol=1e-6)


def test_threads_change_nothing(tmp_path: Path) -> None:
    final = []
    for workers in (0, 2):
        stage = ToyStage()
        trainer(tmp_path / str(workers), stage, num_workers=workers).train()
        final.append(weights(stage))
    assert all(torch.equal(value, final[1][name]) for name, value in final[0].items())


def test_a_non_finite_loss_stops_and_names_the_samples(tmp_path: Path) -> None:
    stage = ToyStage(train=6)
    stage.bad_index = 4
    with pytest.raises(NonFiniteLossError, match=r"loss is nan in epoch 1, batch .* of 3, with .*toy_4"):
        trainer(tmp_path, stage).train()


def test_a_non_finite_gradient_stops(tmp_path: Path) -> None:
    class Exploding(ToyStage):
        def loss(self, network: Any, batch: Any, draws: Any) -> Any:
            loss, parts = super().loss(network, batch, draws)
            return (loss * 0).sqrt(), parts  # the loss is 0; sqrt has an infinite slope there

    with pytest.raises(NonFiniteLossError, match="gradient"):
        trainer(tmp_path, Exploding()).train()


def test_early_stopping_keeps_the_best(tmp_path: Path) -> None:
    dice = iter([0.5, 0.7, 0.6, 0.65, 0.9])
    stage = ToyStage()
    result = trainer(tmp_path, stage, lambda: Validated({"dice": next(dice)}), epochs=5, patience=2).train()
    assert result.stopped_early and result.epochs == 4 and result.metrics["dice"] == 0.7
    saved = json.loads((tmp_path / "best" / "metrics.json").read_text())
    assert saved["dice"] == 0.7 and "loss" in saved
    assert json.loads((tmp_path / "last" / "metrics.json").read_text())["dice"] == 0.65


def test_a_validator_that_returns_nan_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteLossError, match="dice"):
        trainer(tmp_path, validator=lambda: Validated({"dice": float("nan")})).train()


def test_what_is_best_the_stage_says(tmp_path: Path) -> None:
    class Shortest(ToyStage):
        def score(self, metrics: Any) -> float | None:
            return -metrics["assd_mm"]

    assd_mm = iter([3.0, 1.0, 2.0])
    loop = trainer(tmp_path, Shortest(), lambda: Validated({"assd_mm": next(assd_mm), "dice": 0.5}))
    assert loop.train().metrics["assd_mm"] == 1.0 and loop.counters.best_epoch == 2


def test_pictures_go_to_tensorboard_at_the_step_of_their_validation(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing import event_accumulator  # type: ignore[import-untyped]  # has no types

    red = np.zeros((4, 6, 3), np.uint8)
    red[..., 0] = 255
    trainer(tmp_path, ToyStage(), lambda: Validated({"dice": 0.5}, {"slices": red}), epochs=2).train()
    events = event_accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    shown = events.Images("validation/slices")
    assert [(one.step, one.width, one.height) for one in shown] == [(4, 6, 4), (8, 6, 4)]
    assert [one.step for one in events.Scalars("validation/dice")] == [4, 8]


def test_a_picture_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"picture 'grey' must be \(Y, X, 3\) of uint8, got \(4, 6\) of uint8"):
        Validated({}, {"grey": np.zeros((4, 6), np.uint8)})


def test_memory_is_estimated_and_compared(tmp_path: Path) -> None:
    text, stage = io.StringIO(), ToyStage()
    stage.module = torch.nn.Sequential(torch.nn.Linear(3, 512), torch.nn.Linear(512, 512), torch.nn.Linear(512, 3))
    trainer(tmp_path, stage, text=text, epochs=1).train()
    said = text.getvalue()
    assert said.index("memory of a training step, estimated") < said.index("epoch 1 of 1")
    assert said.index("done after") < said.rindex("memory of a training step: ")


def test_without_blocks_there_is_nothing_to_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="stage toy: its network has no blocks"):
        trainer(tmp_path, checkpoint_activations=True)


def test_validation_draws_the_same_each_time(tmp_path: Path) -> None:
    stage = ToyStage()
    loop = trainer(tmp_path, stage)
    first, second = loop.validate(), loop.validate()
    assert first == second
    assert torch.equal(stage.validation_draws[0], stage.validation_draws[2])  # two batches in each


def test_without_validation_patients_best_is_last(tmp_path: Path) -> None:
    text = io.StringIO()
    result = trainer(tmp_path, ToyStage(validation=0), text=text).train()
    best, last = (path / "adapter_model.safetensors" for path in (result.best, result.last))
    assert best.read_bytes() == last.read_bytes() and result.metrics == {} and result.epochs == 3
    assert "no validation patients" in text.getvalue()


def test_the_average_is_validated_and_saved(tmp_path: Path) -> None:
    stage = ToyStage()
    loop = trainer(tmp_path, stage, ema_decay=0.9)
    loop.train()
    average = loop.learner.average
    assert average is not None
    own = weights(stage)
    for name, value in average.average.items():
        assert torch.equal(stage.saved[-1][name], value) and not torch.equal(own[name], value)


def test_bf16_mixed_keeps_inputs_and_weights_in_float32(tmp_path: Path) -> None:
    stage = ToyStage(noise=0.0, dropout=0.0)
    seen: list[torch.dtype] = []
    stage.module.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].dtype))
    loop = trainer(tmp_path, stage, precision="bf16", epochs=1)
    loop.train()
    assert set(seen) == {torch.float32}
    assert all(p.dtype == torch.float32 for p in stage.module.parameters())


def test_nothing_to_train_is_an_error(tmp_path: Path) -> None:
    class Frozen(ToyStage):
        def set_trainable(self) -> str:
            self.module.requires_grad_(False)
            return ""

    with pytest.raises(ValueError, match="no parameter is trainable"):
        trainer(tmp_path, Frozen())
    with pytest.raises(ValueError, match="no training samples"):
        trainer(tmp_path, ToyStage(train=0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"lr": 0.0}, "lr must be above 0"),
        ({"lr": float("nan")}, "lr must be above 0"),
        ({"betas": (0.9, 1.0)}, "betas must be two in"),
        ({"precision": "8"}, "precision must be one of"),
        ({"device": "tpu"}, "device 'tpu' is not here"),
        ({"device": "cpu:7"}, "device 'cpu:7' is not here"),
        ({"precision": "16"}, "precision 16 needs a CUDA GPU"),
    ],
)
def test_bad_options_say_what_they_may_be(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        trainer(tmp_path, **options)
