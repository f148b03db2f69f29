"""Flow matching and self-consistency: golden values and gradients, the order of the draws, hand-worked numbers."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from sam3d_objects.model.flow_matching import (
    STRUCTURE_WEIGHTS,
    flow_matching_loss,
    interpolate,
    logit_normal_times,
    noise_like,
)
from sam3d_objects.model.sampler import TIME_SCALE
from sam3d_objects.model.shortcut import draw_step_sizes, self_consistency_target, shortcut_loss
from tests.model.golden import Golden, ToyVelocity, assert_parity, doubled, load_golden, under

BATCH = 4
# Which rows the teacher is guided in, and whether the student's condition was dropped, in the golden runs.
GUIDED = {"sc_only": [True] * 4, "sc_cfg": [True] * 4, "mixed_nonbatch": [False, True, False, False]}
DROPPED = {"sc_only": True, "sc_cfg": False, "mixed_nonbatch": True}


@pytest.fixture(scope="module")
def golden(shared_reference: Path) -> Golden:
    return load_golden(shared_reference, "training_loss")


def guided_latents(case: str, data: dict[str, Tensor]) -> tuple[str, ...]:
    """Batch mode guides shape alone; the other mode guides all."""
    return tuple(data) if case == "mixed_nonbatch" else ("shape",)


def network_of(golden: Golden) -> ToyVelocity:
    return ToyVelocity({name: value.clone().requires_grad_() for name, value in golden.state.items()})


def assert_gradients(network: ToyVelocity, loss: Tensor, golden: Golden, case: str) -> None:
    loss.backward()
    expected = under(golden.outputs, f"{case}.grad.")
    assert set(expected) == set(network.weights)
    for name, value in expected.items():
        found = network.weights[name].grad
        assert_parity(torch.zeros_like(value) if found is None else found, value, f"{case}.grad.{name}")


@pytest.mark.parametrize("case", ["fm_only", "fm_eps"])
def test_flow_matching(golden: Golden, case: str) -> None:
    network, settings = network_of(golden), golden.meta["cases"][case]
    t, noise = golden.inputs[f"{case}.t"], under(golden.inputs, f"{case}.x0.")
    d = torch.tensor(settings["calls"][0][1]) / TIME_SCALE
    loss, _ = flow_matching_loss(
        network, under(golden.inputs, "x1."), golden.inputs["cond"], t, noise, golden.meta["loss_weights"], d
    )
    assert_parity(loss[None], golden.outputs[f"{case}.loss"], case)
    assert_parity(loss[None], golden.outputs[f"{case}.flow_matching_loss"], case)
    torch.testing.assert_close(torch.tensor(network.calls[0][:2]), torch.tensor(settings["calls"][0][:2]))
    assert_gradients(network, loss, golden, case)


def test_terms_of_plain_flow_matching(golden: Golden) -> None:
    t, noise = golden.inputs["plain_fm.t"], under(golden.inputs, "plain_fm.x0.")
    data, condition, weights = under(golden.inputs, "x1."), golden.inputs["cond"], golden.meta["loss_weights"]
    loss, parts = flow_matching_loss(ToyVelocity(golden.state), data, condition, t, noise, weights)
    assert_parity(loss[None], golden.outputs["plain_fm.loss"])
    for name, value in parts.items():
        assert_parity(value[None], golden.outputs[f"plain_fm.{name}"], name)
    in_double = flow_matching_loss(
        ToyVelocity(doubled(golden.state)),
        doubled(data),
        condition.double(),
        t.double(),
        doubled(noise),
        weights,
    )
    assert_parity(in_double[0][None], golden.outputs["plain_fm.loss"])


@pytest.mark.parametrize("case", ["sc_only", "sc_cfg", "mixed_nonbatch"])
def test_shortcut(golden: Golden, case: str) -> None:
    network, data, condition = network_of(golden), under(golden.inputs, "x1."), golden.inputs["cond"]
    loss, terms = shortcut_loss(
        network,
        data,
        condition,
        condition * (0 if DROPPED[case] else 1),
        golden.inputs[f"{case}.t"],
        under(golden.inputs, f"{case}.x0."),
        golden.inputs[f"{case}.d"],
        torch.tensor(GUIDED[case]),
        golden.meta["loss_weights"],
        guided_latents=guided_latents(case, data),
    )
    for name, value in {"loss": loss, **{f"{term}_loss": part for term, part in terms.items()}}.items():
        assert_parity(value[None], golden.outputs[f"{case}.{name}"], name)
    assert network.calls == golden.meta["cases"][case]["calls"]
    assert_gradients(network, loss, golden, case)


@pytest.mark.parametrize("case", ["sc_only", "sc_cfg", "mixed_nonbatch"])
def test_self_consistency_target(golden: Golden, case: str) -> None:
    t, d = golden.inputs[f"{case}.t"], golden.inputs[f"{case}.d"]
    rows, data = d > 0, under(golden.inputs, "x1.")
    x_t = interpolate(under(golden.inputs, f"{case}.x0."), data, t)
    target = self_consistency_target(
        ToyVelocity(golden.state),
        {name: value[rows] for name, value in x_t.items()},
        t[rows],
        d[rows],
        golden.inputs["cond"][rows],
        torch.tensor(GUIDED[case])[rows],
        guided_latents=guided_latents(case, data),
    )
    for name, value in target.items():
        assert_parity(value, golden.outputs[f"{case}.sc_target.{name}"], name)


def test_order_of_the_random_draws(golden: Golden) -> None:
    torch.manual_seed(golden.meta["cases"]["fm_only"]["torch_seed"])
    assert_parity(logit_normal_times(BATCH, -1.0, 1.0), golden.inputs["fm_only.t"], "t")
    torch.randperm(BATCH)  # the release's choice of rows for d
    for name, value in noise_like(under(golden.inputs, "x1.")).items():
        assert torch.equal(value, golden.inputs[f"fm_only.x0.{name}"]), name
    torch.manual_seed(3)
    assert_parity(logit_normal_times(16, -1.0, 1.0), golden.outputs["lognorm_sampler_seed3"], "seed 3")


def test_noise_follows_dtype_and_generator() -> None:
    data = {"b": torch.zeros(2, 3, 1, dtype=torch.float64), "a": torch.zeros(2, 1, 4)}
    noise, again = (noise_like(data, torch.Generator().manual_seed(1)) for _ in range(2))
    assert noise["b"].dtype == torch.float64
    assert all(torch.equal(noise[name], again[name]) for name in data)


def test_flow_matching_by_hand() -> None:
    noise, data = {"shape": torch.full((1, 1, 2), 1.0)}, {"shape": torch.full((1, 1, 2), 4.0)}
    t = torch.tensor([0.25])
    assert interpolate(noise, data, t)["shape"].flatten().tolist() == [1.75, 1.75]
    seen: dict[str, Tensor] = {}

    def network(x: dict[str, Tensor], t: Tensor, condition: Tensor, d: Tensor | None) -> dict[str, Tensor]:
        assert d is not None
        seen.update(x=x["shape"], t=t, d=d)
        return {"shape": torch.full((1, 1, 2), 1.0)}

    loss, parts = flow_matching_loss(network, data, torch.zeros(1, 1, 1), t, noise, {"shape": 0.5})
    # Target 4 - 1 = 3, predicted 1: half of (3 - 1)^2.
    assert float(loss) == float(parts["shape"]) == 2.0
    assert seen["x"].flatten().tolist() == [1.75, 1.75]
    assert (seen["t"].tolist(), seen["d"].tolist()) == ([250.0], [0.0])


def test_every_latent_has_a_weight() -> None:
    data = {name: torch.zeros(1, 1, 1) for name in STRUCTURE_WEIGHTS}
    noise = {name: torch.ones(1, 1, 1) for name in data}
    loss, parts = flow_matching_loss(lambda x, t, c, d: x, data, torch.zeros(1, 1, 1), torch.ones(1), noise)
    # At t = 1 the network returns data = 0 where -1 is right.
    assert {name: float(value) for name, value in parts.items()} == pytest.approx(STRUCTURE_WEIGHTS)
    assert float(loss) == pytest.approx(3.1)


def test_step_sizes_are_powers_of_two() -> None:
    sizes = draw_step_sizes(4000, torch.Generator().manual_seed(0))
    assert sorted(set(sizes.tolist())) == [2.0**-power for power in range(7, -1, -1)]
    counts = torch.unique(sizes, return_counts=True)[1]
    assert counts.min() > 400 and counts.max() < 600


def test_a_straight_flow_is_consistent_with_itself() -> None:
    data, noise = {"shape": torch.randn(3, 2, 4)}, {"shape": torch.randn(3, 2, 4)}
    straight = {"shape": data["shape"] - noise["shape"]}

    def network(x: dict[str, Tensor], t: Tensor, condition: Tensor, d: Tensor | None) -> dict[str, Tensor]:
        return {"shape": straight["shape"][: len(t)]}

    condition = torch.randn(3, 1, 1)
    no_guidance = torch.zeros(3, dtype=torch.bool)
    loss, terms = shortcut_loss(
        network, data, condition, condition, torch.full((3,), 0.25), noise, torch.full((3,), 0.25), no_guidance
    )
    assert float(loss) == pytest.approx(0.0, abs=1e-12)
    assert float(terms["flow_matching"]) == 0.0
