"""Weights are on the device inside the block and rest where they were after it."""

import pytest
import torch
from torch import Tensor, nn

from sam3d_objects.model import offload
from sam3d_objects.model.offload import on_device

WEIGHT = 5.0


@pytest.fixture
def module() -> nn.Module:
    network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).eval()
    return network.requires_grad_(False)


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Let 'meta' stand for a GPU: what goes there is a copy of the CPU's, and this lists what went."""
    gone: list[Tensor] = []

    def moved(value: Tensor, device: torch.device) -> Tensor:
        assert device.type == "meta"
        gone.append(value)
        return value.clone()

    monkeypatch.setattr(offload, "moved", moved)
    return gone


def places(module: nn.Module) -> list[int]:
    return [value.data_ptr() for value in module.state_dict().values()]


def test_weights_move_and_rest(module: nn.Module, elsewhere: list[Tensor]) -> None:
    before, x = places(module), torch.randn(4, 3)
    expected = module(x)
    with on_device(module, "meta") as inside:
        assert inside is module
        assert not set(places(module)) & set(before)
        assert torch.equal(module(x), expected)
        module[0].weight.fill_(WEIGHT)  # type: ignore[index]
    assert places(module) == before
    assert torch.equal(module(x), expected), "what happens there does not come back"
    assert len(elsewhere) == len(module.state_dict())


def test_they_rest_after_an_exception(module: nn.Module, elsewhere: list[Tensor]) -> None:
    before = places(module)
    with pytest.raises(FloatingPointError), on_device(module, "meta"):
        raise FloatingPointError
    assert places(module) == before


def test_they_rest_when_the_device_is_full(
    module: nn.Module, monkeypatch: pytest.MonkeyPatch, elsewhere: list[Tensor]
) -> None:
    def full(value: Tensor, device: torch.device) -> Tensor:
        if len(elsewhere) == 2:
            raise torch.OutOfMemoryError("full")
        elsewhere.append(value)
        return value.clone()

    before = places(module)
    monkeypatch.setattr(offload, "moved", full)
    with pytest.raises(torch.OutOfMemoryError), on_device(module, "meta"):
        raise AssertionError("the block is not entered")
    assert places(module) == before


@pytest.mark.parametrize("device", [None, "cpu", torch.device("cpu")])
def test_nothing_moves_where_it_is_already(module: nn.Module, device: torch.device | str | None) -> None:
    before = places(module)
    module.requires_grad_(True)
    with on_device(module, device):
        assert places(module) == before


def test_a_module_that_trains_is_refused(module: nn.Module, elsewhere: list[Tensor]) -> None:
    module[1].requires_grad_(True)  # type: ignore[index]
    with pytest.raises(ValueError, match="Sequential is being trained, so it cannot be offloaded"):
        on_device(module, "meta").__enter__()
    assert not elsewhere


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_on_a_gpu(module: nn.Module) -> None:
    before, x = places(module), torch.randn(4, 3)
    with on_device(module, "cuda"), on_device(module, torch.device("cuda")):
        assert {value.device.type for value in module.state_dict().values()} == {"cuda"}
        there = module(x.cuda()).cpu()
    assert places(module) == before and {value.device.type for value in module.state_dict().values()} == {"cpu"}
    torch.testing.assert_close(there, module(x))
