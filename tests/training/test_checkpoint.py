"""The state file is whole or refused."""

from pathlib import Path

import pytest
import torch

from sam3d_objects.training.checkpoint import (
    RunState,
    differences,
    load_run_state,
    optimizer_tensors,
    restore_optimizer,
    save_run_state,
)


def test_a_state_comes_back_bit_for_bit(tmp_path: Path) -> None:
    tensors = {"parameter": {"a.b/c": torch.randn(3, 2)}, "random": {"torch": torch.get_rng_state()}}
    values = {"score": 0.1 + 0.2, "nested": {"list": [1, None, "x"]}}
    save_run_state(tmp_path / "state.safetensors", RunState(tensors, values))
    back = load_run_state(tmp_path / "state.safetensors")
    assert back.values == values
    assert torch.equal(back.tensors["parameter"]["a.b/c"], tensors["parameter"]["a.b/c"])
    assert torch.equal(back.tensors["random"]["torch"], tensors["random"]["torch"])


def test_a_failed_write_keeps_the_old_state(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    save_run_state(path, RunState({}, {"n": 1}))
    with pytest.raises(ValueError):
        save_run_state(path, RunState({}, {"n": float("nan")}))
    assert load_run_state(path).values == {"n": 1}
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("keep", [0, 5, 100])
def test_a_truncated_state_is_refused_by_name(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "state.safetensors"
    save_run_state(path, RunState({"p": {"x": torch.zeros(100)}}, {}))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"state\.safetensors is no whole run state"):
        load_run_state(path)


def test_another_file_and_no_file_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="expected the format"):
        load_run_state(tmp_path / "other.safetensors")
    with pytest.raises(FileNotFoundError, match="no run state at"):
        load_run_state(tmp_path / "none.safetensors")


def test_an_optimiser_goes_on_as_if_nothing_had_happened() -> None:
    torch.manual_seed(0)
    start, gradients = torch.randn(4, 3), torch.randn(6, 4, 3)

    def steps(parameter: torch.nn.Parameter, optimizer: torch.optim.Optimizer, which: range) -> None:
        for i in which:
            parameter.grad = gradients[i].clone()
            optimizer.step()

    one = torch.nn.Parameter(start.clone())
    optimizer = torch.optim.AdamW([one], lr=0.1)
    steps(one, optimizer, range(3))
    two = torch.nn.Parameter(one.detach().clone())
    other = torch.optim.AdamW([two], lr=0.1)
    saved = {name: value.clone() for name, value in optimizer_tensors(optimizer, {one: "w|x"}).items()}
    assert set(saved) == {"w|x|step", "w|x|exp_avg", "w|x|exp_avg_sq"}
    restore_optimizer(other, {two: "w|x"}, saved)
    steps(one, optimizer, range(3, 6))
    steps(two, other, range(3, 6))
    assert torch.equal(one, two)


def test_differences_are_named_by_dotted_path() -> None:
    was = {"a": {"b": 1, "c": [1, 2]}, "gone": True}
    now = {"a": {"b": 2, "c": [1, 2]}, "new": None}
    assert differences(was, was) == []
    assert differences(was, now) == [
        "a.b: the run has 1, now 2",
        "gone: the run has True, now 'nothing'",
        "new: the run has 'nothing', now None",
    ]
