"""The sampler: golden trajectories, the sequence of its calls, and hand-worked steps."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sam3d_objects.model.sampler import draw_noise, euler, guided, time_steps
from tests.model.golden import Golden, ToyVelocity, assert_parity, doubled, load_golden, under

STRUCTURE_CASES = ["teacher_25_r3_cfg7", "teacher_4_r3_cfg7", "shortcut_4_cfg0", "yaml_default_2_cfg2_r1"]
LATENT_CASES = ["slat_25_r1_cfg1", "slat_12_r3_cfg5", "slat_interval_none"]


@pytest.fixture(scope="module")
def golden(shared_reference: Path) -> Golden:
    return load_golden(shared_reference, "sampler")


def noise_of(golden: Golden, case: str) -> dict[str, Tensor]:
    return under(golden.inputs, f"{case}.x0.")


@pytest.mark.parametrize("case", STRUCTURE_CASES)
def test_structure_sampling(golden: Golden, case: str) -> None:
    settings = golden.meta["cases"][case]
    network = ToyVelocity(under(golden.state, "mm."))
    found = euler(
        network,
        noise_of(golden, case),
        golden.inputs["cond"],
        settings["steps"],
        settings["rescale"],
        settings["strength"],
        tuple(settings["interval"]),
        settings["d"],
    )
    for name, value in found.items():
        assert_parity(value, golden.outputs[f"{case}.{name}"], name)
    assert network.calls == settings["calls"]


def test_structure_sampling_in_float64_and_one_by_one(golden: Golden) -> None:
    case = "teacher_4_r3_cfg7"
    weights, noise, condition = under(golden.state, "mm."), noise_of(golden, case), golden.inputs["cond"]
    in_double = euler(ToyVelocity(doubled(weights)), doubled(noise), condition.double(), 4, 3, 7)
    for name, value in in_double.items():
        assert_parity(value, golden.outputs[f"{case}.{name}"], name)
        assert value.dtype == torch.float64
    for row in range(2):
        one = {name: value[row : row + 1] for name, value in noise.items()}
        found = euler(ToyVelocity(weights), one, condition[row : row + 1], 4, 3, 7)
        for name, value in found.items():
            assert_parity(value, golden.outputs[f"{case}.{name}"][row : row + 1], name)


@pytest.mark.parametrize("case", LATENT_CASES)
def test_latent_sampling(golden: Golden, case: str) -> None:
    settings = golden.meta["cases"][case]
    weight, per_condition = golden.state["single.W"], golden.state["single.U"]
    calls: list[list[Any]] = []

    def network(x: dict[str, Tensor], t: Tensor, condition: Tensor, d: Tensor | None) -> dict[str, Tensor]:
        assert d is None
        calls.append([float(t), bool((condition == 0).all())])
        return {"x": torch.tanh(x["x"] @ weight.T + per_condition @ condition[:1].mean(1)[0] + t / 1000)}

    interval = None if settings["interval"] is None else tuple(settings["interval"])
    found = euler(
        network,
        {"x": golden.inputs[f"{case}.x0"]},
        golden.inputs["cond"],
        settings["steps"],
        settings["rescale"],
        settings["strength"],
        interval,
        None,
    )
    assert_parity(found["x"], golden.outputs[f"{case}.out"], case)
    assert [free for _, free in calls] == [free for _, free in settings["calls"]]
    torch.testing.assert_close(torch.tensor(calls), torch.tensor(settings["calls"]))  # times to a rounding of 1000 t


@pytest.mark.parametrize("case", [*STRUCTURE_CASES, *LATENT_CASES])
def test_times(golden: Golden, case: str) -> None:
    settings = golden.meta["cases"][case]
    times = time_steps(settings["steps"], settings["rescale"])
    assert_parity(times, golden.outputs[f"{case}.t_seq"], case)


def test_times_by_hand() -> None:
    # t / (1 + 2 (1 - t)) at 0, 1/2, 1.
    assert time_steps(2, 3.0).tolist() == [0.0, 0.25, 1.0]
    assert time_steps(4, 1.0).tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        time_steps(0, 1.0)


def test_a_constant_velocity_is_integrated_exactly() -> None:
    data, noise = {"a": torch.randn(2, 3, 4)}, {"a": torch.randn(2, 3, 4)}
    out = euler(lambda x, t, c, d: {"a": data["a"] - noise["a"]}, noise, torch.zeros(2, 1, 1), 7, rescale=3.0)
    torch.testing.assert_close(out["a"], data["a"])


def condition_mean(x: dict[str, Tensor], t: Tensor, condition: Tensor, d: Tensor | None) -> dict[str, Tensor]:
    """A velocity that tells what it was conditioned on."""
    return {"a": condition.mean(dim=1, keepdim=True).expand_as(x["a"])}


@pytest.mark.parametrize(("t", "expected"), [(0.0, 9.0), (0.5, 9.0), (0.51, 3.0)])
def test_guidance_within_its_interval(t: float, expected: float) -> None:
    x, condition = {"a": torch.zeros(1, 2, 1)}, torch.full((1, 4, 1), 3.0)
    out = guided(condition_mean, x, t, condition, None, strength=2.0, interval=(0.0, 500.0))
    assert out["a"].flatten().tolist() == [expected, expected]


def test_noise_is_drawn_in_the_order_of_names() -> None:
    shapes: dict[str, tuple[int, ...]] = {"b": (1, 2, 3), "a": (1, 1, 1)}
    generator = torch.Generator().manual_seed(4)
    first, second = torch.randn(1, 1, 1, generator=generator), torch.randn(1, 2, 3, generator=generator)
    noise = draw_noise(shapes, torch.Generator().manual_seed(4))
    assert torch.equal(noise["a"], first) and torch.equal(noise["b"], second)


def test_golden_noise_follows_that_order(golden: Golden) -> None:
    assert golden.meta["cases"]["teacher_25_r3_cfg7"]["x0_draw_order"] == sorted(noise_of(golden, STRUCTURE_CASES[0]))
