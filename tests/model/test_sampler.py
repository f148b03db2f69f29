"""The sampler: golden trajectories, the sequence of its calls, and hand-worked steps."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sam3d_objects.model.sampler import SOLVERS, Velocity, draw_noise, guided, integrate, time_steps
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
    found = integrate(
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
    in_double = integrate(ToyVelocity(doubled(weights)), doubled(noise), condition.double(), 4, 3, 7)
    for name, value in in_double.items():
        assert_parity(value, golden.outputs[f"{case}.{name}"], name)
        assert value.dtype == torch.float64
    for row in range(2):
        one = {name: value[row : row + 1] for name, value in noise.items()}
        found = integrate(ToyVelocity(weights), one, condition[row : row + 1], 4, 3, 7)
        for name, value in found.items():
            assert_parity(value, golden.outputs[f"{case}.{name}"][row : row + 1], name)


def latent_toy(golden: Golden, calls: list[list[Any]]) -> Velocity:
    """The toy network of one packed latent, which notes how it is called."""
    weight, per_condition = golden.state["single.W"], golden.state["single.U"]

    def network(x: dict[str, Tensor], t: Tensor, condition: Tensor, d: Tensor | None) -> dict[str, Tensor]:
        assert d is None
        calls.append([float(t), bool((condition == 0).all())])
        mean = per_condition.to(condition) @ condition[:1].mean(1)[0]
        return {name: torch.tanh(value @ weight.to(value).T + mean + t / 1000) for name, value in x.items()}

    return network


@pytest.mark.parametrize("case", LATENT_CASES)
def test_latent_sampling(golden: Golden, case: str) -> None:
    settings = golden.meta["cases"][case]
    calls: list[list[Any]] = []
    interval = None if settings["interval"] is None else tuple(settings["interval"])
    found = integrate(
        latent_toy(golden, calls),
        {"slat": golden.inputs[f"{case}.x0"][0]},  # (N, 8): packed, without a batch axis
        golden.inputs["cond"],
        settings["steps"],
        settings["rescale"],
        settings["strength"],
        interval,
        None,
    )
    assert_parity(found["slat"][None], golden.outputs[f"{case}.out"], case)
    assert [free for _, free in calls] == [free for _, free in settings["calls"]]
    torch.testing.assert_close(torch.tensor(calls), torch.tensor(settings["calls"]))  # times to a rounding of 1000 t


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("solver", "calls_a_step"), [("midpoint", 2), ("rk4", 4)])
def test_solvers_of_higher_order(golden: Golden, solver: str, calls_a_step: int, dtype: torch.dtype) -> None:
    calls: list[list[Any]] = []
    noise = {"slat": golden.inputs["slat_12_r3_cfg5.x0"].to(dtype)}
    condition = golden.inputs["cond"].to(dtype)
    found = integrate(latent_toy(golden, calls), noise, condition, 3, d=None, solver=solver)["slat"]
    assert_parity(found, golden.outputs[f"fm_{solver}_3.out"], solver)
    assert found.dtype == dtype and len(calls) == 3 * calls_a_step


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("midpoint", 2), ("rk4", 4)])
def test_the_error_falls_with_the_order(solver: str, order: int) -> None:
    one, nothing = torch.ones(1, 1, dtype=torch.double), torch.zeros(1, 1, 1, dtype=torch.double)

    def error(steps: int) -> float:
        found = integrate(lambda x, t, c, d: x, {"a": one}, nothing, steps, d=None, solver=solver)["a"]
        return abs(float(found) - math.e)  # x' = x from 1 is e at t = 1

    assert error(8) / error(16) == pytest.approx(2**order, rel=0.15)


def test_an_unknown_solver() -> None:
    assert sorted(SOLVERS) == ["euler", "midpoint", "rk4"]
    with pytest.raises(ValueError, match=r"one of \['euler', 'midpoint', 'rk4'\], got 'heun'"):
        integrate(condition_mean, {"a": torch.zeros(1, 2, 1)}, torch.zeros(1, 1, 1), 2, solver="heun")


def test_a_network_in_half_precision_is_integrated_in_single() -> None:
    seen = []

    def network(x: dict[str, Tensor], t: Tensor, condition: Tensor, d: Tensor | None) -> dict[str, Tensor]:
        assert d is not None
        seen.append((x["a"].dtype, t.dtype, d.dtype))
        return {"a": torch.full_like(x["a"], 0.001)}

    noise = {"a": torch.ones(1, 1, 1)}
    out = integrate(network, noise, torch.zeros(1, 1, 1, dtype=torch.bfloat16), 50, strength=1.0)
    assert set(seen) == {(torch.bfloat16, torch.float32, torch.float32)}
    # In bfloat16 itself 1 + 0.001 / 50 is 1, fifty times over.
    assert float(out["a"]) == pytest.approx(1.001, abs=1e-5)


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
    out = integrate(lambda x, t, c, d: {"a": data["a"] - noise["a"]}, noise, torch.zeros(2, 1, 1), 7, rescale=3.0)
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
