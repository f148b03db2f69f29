"""The two-stream structure flow against its golden vectors."""

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from sam3d_objects.model.structure.flow import StructureFlow
from tests.model.golden import Golden, assert_parity, doubled, golden_flow, load_golden, under


@pytest.fixture(scope="module")
def golden(shared_reference: Path) -> Golden:
    return load_golden(shared_reference, "mot_ss_flow")


@pytest.fixture
def flow(golden: Golden) -> StructureFlow:
    return golden_flow(golden)


def arguments(golden: Golden, case: str) -> tuple[dict[str, Tensor], Tensor, Tensor, Tensor | None]:
    """What the flow is called with in one case: x, t, condition, d."""
    given = golden.inputs
    t, condition, d = given["t"], given["cond"], given["d"]
    return {
        "out": (under(given, "x."), t, condition, d),
        "out_cfg": (under(given, "x."), t, condition * 0, d),
        "out_no_d": (under(given, "x."), t, condition, None),
        "out_t500_d0_bcast": (under(given, "x."), torch.tensor([500.0]), condition, torch.tensor([0.0])),
    }[case]


def assert_all(found: dict[str, Tensor], golden: Golden, case: str) -> None:
    expected = under(golden.outputs, f"{case}.")
    assert set(found) == set(expected)
    for name in expected:
        assert_parity(found[name], expected[name], f"{case}.{name}")


@pytest.mark.parametrize("case", ["out", "out_cfg", "out_no_d", "out_t500_d0_bcast"])
@torch.no_grad()
def test_velocity(flow: StructureFlow, golden: Golden, case: str) -> None:
    assert_all(flow(*arguments(golden, case)), golden, case)


@torch.no_grad()
def test_time_embeddings(flow: StructureFlow, golden: Golden) -> None:
    assert flow.d_embedder is not None
    assert_parity(flow.t_embedder(golden.inputs["t"]), golden.outputs["t_emb"], "t")
    assert_parity(flow.d_embedder(golden.inputs["d"]), golden.outputs["d_emb"], "d")


@torch.no_grad()
def test_state_after_each_block(flow: StructureFlow, golden: Golden) -> None:
    states: dict[str, Tensor] = {}

    def note(index: int, module: nn.Module, given: object, out: dict[str, Tensor]) -> None:
        states.update({f"block{index}.{stream}": value for stream, value in out.items()})

    for index, block in enumerate(flow.blocks):
        block.register_forward_hook(partial(note, index))
    flow(*arguments(golden, "out"))
    expected = under(golden.outputs, "inter.")
    assert set(states) == set(expected)
    for name in expected:
        assert_parity(states[name], expected[name], name)


@pytest.mark.parametrize("loss_of", ["shape", "translation"])
def test_gradients(flow: StructureFlow, golden: Golden, loss_of: str) -> None:
    x, t, condition, d = arguments(golden, "out")
    x = {name: value.clone().requires_grad_() for name, value in x.items()}
    flow(x, t, condition, d)[loss_of].square().sum().backward()
    for wrt in ("shape", "translation"):
        found = x[wrt].grad
        expected = golden.outputs[f"grad_{loss_of}_loss.wrt_{wrt}_input"]
        assert_parity(torch.zeros_like(expected) if found is None else found, expected, f"{loss_of} by {wrt}")


def test_what_the_release_kept_frozen(flow: StructureFlow, golden: Golden) -> None:
    assert sorted(flow.frozen_parameters()) == sorted(golden.meta["frozen_params_when_freeze_shared_parameters"])


@torch.no_grad()
def test_one_by_one_as_in_a_batch(flow: StructureFlow, golden: Golden) -> None:
    x, t, condition, d = arguments(golden, "out")
    assert d is not None
    parts = [
        flow({name: value[i : i + 1] for name, value in x.items()}, t[i : i + 1], condition[i : i + 1], d[i : i + 1])
        for i in range(len(t))
    ]
    assert_all({name: torch.cat([part[name] for part in parts]) for name in x}, golden, "out")


@torch.no_grad()
def test_in_float64(flow: StructureFlow, golden: Golden) -> None:
    x, t, condition, d = arguments(golden, "out")
    assert d is not None
    found = flow.double()(doubled(x), t.double(), condition.double(), d.double())
    assert {value.dtype for value in found.values()} == {torch.float64}
    assert_all(found, golden, "out")
