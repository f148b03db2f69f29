"""The plain loop: a resumed run ends like an uninterrupted one, to the bit."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from sam3d_objects.pretraining.loop import LoopOptions, averaged_state, learning_rate_at, run

OPTIONS = LoopOptions(steps=7, learning_rate=0.1, warmup_steps=2, report_every=3)


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))


def loss_for(module: nn.Module, step: int) -> tuple[Tensor, dict[str, float]]:
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(8, 3, generator=generator)
    loss = (module(x)[:, 0] - x.sum(dim=1)).square().mean()
    return loss, {"loss": loss.item()}


def train(module: nn.Module, checkpoint: Path, options: LoopOptions = OPTIONS) -> bool:
    return run(module, lambda step: loss_for(module, step), options, checkpoint, "toy")


def test_stopped_and_resumed_ends_bit_identical(tmp_path: Path) -> None:
    whole = network(0)
    assert train(whole, tmp_path / "whole.pt")
    stopped, runs = network(0), 1
    while not train(stopped, tmp_path / "parts.pt", replace(OPTIONS, stop_after_s=0.0)):
        stopped = network(99)  # a new process knows nothing but the checkpoint
        runs += 1
    assert runs == OPTIONS.steps
    for name, value in whole.state_dict().items():
        assert torch.equal(value, stopped.state_dict()[name]), name
    first, second = averaged_state(tmp_path / "whole.pt"), averaged_state(tmp_path / "parts.pt")
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["0.weight"], whole.state_dict()["0.weight"])


def test_a_finished_run_stays_as_it_is(tmp_path: Path) -> None:
    module = network(0)
    train(module, tmp_path / "c.pt")
    again = network(1)
    assert train(again, tmp_path / "c.pt")
    assert torch.equal(again.state_dict()["0.weight"], module.state_dict()["0.weight"])


def test_a_prolonged_run_goes_on(tmp_path: Path) -> None:
    train(network(0), tmp_path / "c.pt")
    longer = replace(OPTIONS, steps=9)
    steps: list[int] = []
    module = network(1)

    def loss_of(step: int) -> tuple[Tensor, dict[str, float]]:
        steps.append(step)
        return loss_for(module, step)

    assert run(module, loss_of, longer, tmp_path / "c.pt", "toy")
    assert steps == [7, 8]


def test_checkpoints_are_kept_while_training(tmp_path: Path) -> None:
    module, checkpoint = network(0), tmp_path / "c.pt"

    def killed(step: int) -> tuple[Tensor, dict[str, float]]:
        if step == 5:
            raise KeyboardInterrupt
        return loss_for(module, step)

    with pytest.raises(KeyboardInterrupt):
        run(module, killed, replace(OPTIONS, save_every_s=-1.0), checkpoint, "toy")
    assert torch.load(checkpoint, weights_only=True)["step"] == 5
    resumed, whole = network(1), network(0)
    train(resumed, checkpoint)
    train(whole, tmp_path / "whole.pt")
    assert torch.equal(resumed.state_dict()["2.weight"], whole.state_dict()["2.weight"])


def test_a_loss_that_is_not_finite_stops(tmp_path: Path) -> None:
    module = network(0)

    def broken(step: int) -> tuple[Tensor, dict[str, float]]:
        loss, figures = loss_for(module, step)
        return (loss * torch.nan if step == 3 else loss), figures

    with pytest.raises(FloatingPointError, match="toy: the loss of step 3 is nan"):
        run(module, broken, OPTIONS, tmp_path / "c.pt", "toy")
    assert not (tmp_path / "c.pt").exists()


def test_learning_rate_by_hand() -> None:
    options = LoopOptions(steps=100, learning_rate=1.0, warmup_steps=10, final_share=0.2, decay_share=0.5)
    expected = {0: 0.1, 4: 0.5, 9: 1.0, 10: 1.0, 50: 1.0, 75: 0.2 + 0.8 * 0.5, 99: 0.2 + 0.8 * 0.02}
    assert {step: learning_rate_at(step, options) for step in expected} == pytest.approx(expected)


def test_progress_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(network(0), tmp_path / "c.pt")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["3/7", "6/7", "7/7"]
    assert all("loss" in line and line.endswith("min left") for line in lines)
