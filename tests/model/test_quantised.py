"""A base in fewer bits under adapters in float32."""

from collections.abc import Callable
from importlib.util import find_spec

import pytest
import torch
from torch import Tensor, nn

from sam3d_objects.model.lora import inject_lora, trainable_names, unfreeze
from sam3d_objects.model.quantised import float32_trained, frozen_base
from tests.model.test_checkpointing import Loss, decoder, latent, structure

TORCHAO = find_spec("torchao") is not None


def mixed(network: nn.Module, loss: Loss) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return loss(network)


@pytest.mark.parametrize("make", [structure, latent, decoder])
def test_a_bf16_base_trains_float32_adapters_and_heads(make: Callable[[], tuple[nn.Module, Loss]]) -> None:
    network, loss = make()
    plain = loss(network).detach()
    frozen_base(network, "bf16")
    assert {p.dtype for p in network.parameters()} == {torch.bfloat16} and not trainable_names(network)
    inject_lora(network, rank=2)
    unfreeze(network, [name for name, _ in network.named_modules() if name.endswith("out_layer")])
    heads = sum(p.numel() for name, p in network.named_parameters() if ".lora_" not in name and p.requires_grad)
    assert heads and float32_trained(network) == heads
    assert float32_trained(network) == 0
    found = mixed(network, loss)
    found.backward()
    assert found.item() == pytest.approx(plain.item(), rel=0.03)
    moved = {name for name, p in network.named_parameters() if p.grad is not None}
    assert moved and moved <= set(trainable_names(network))
    for name, parameter in network.named_parameters():
        assert parameter.dtype == (torch.float32 if parameter.requires_grad else torch.bfloat16), name


def test_fp32_only_freezes() -> None:
    network, loss = structure()
    before = loss(network)
    frozen_base(network, "fp32")
    assert torch.equal(loss(network), before) and not trainable_names(network)


@pytest.mark.skipif(TORCHAO, reason="torchao is installed, so nothing is missing")
def test_int8_says_what_to_install_and_changes_nothing() -> None:
    network, _ = structure()
    with pytest.raises(ValueError, match=r"int8 base needs torchao: pip install torchao"):
        frozen_base(network, "int8")
    assert {p.dtype for p in network.parameters()} == {torch.float32} and trainable_names(network)


@pytest.mark.skipif(not TORCHAO, reason="needs torchao (pip install torchao), an optional package")
def test_an_int8_base_trains_adapters() -> None:
    network, loss = structure()
    plain = loss(network).detach()
    frozen_base(network, "int8")
    inject_lora(network, rank=2)
    found = mixed(network, loss)
    found.backward()
    assert found.item() == pytest.approx(plain.item(), rel=0.05)
    moved = {name for name, p in network.named_parameters() if p.grad is not None and p.grad.any()}
    assert moved and all(name.endswith("lora_B") for name in moved)  # A has no gradient while B is zero


@pytest.mark.parametrize("dtype", ["float16", "", "INT8"])
def test_an_unknown_dtype_is_refused(dtype: str) -> None:
    with pytest.raises(ValueError, match="fp32, bf16, int8"):
        frozen_base(nn.Linear(2, 2), dtype)


def test_a_base_with_adapters_is_not_cast() -> None:
    network, _ = structure()
    inject_lora(network, rank=2)
    with pytest.raises(ValueError, match="before adapters"):
        frozen_base(network, "bf16")
