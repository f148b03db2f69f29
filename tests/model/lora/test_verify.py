"""What `verify` proves, and the reason that it prints where something is wrong."""

import pytest
import torch
from torch import nn

from sam3d_objects.model.lora import (
    freeze_base_params,
    get_lora_state_dict,
    inject_lora,
    load_lora_state_dict,
    merge_lora_weights,
    remember,
    set_lora_enabled,
    unfreeze,
    verify,
)
from sam3d_objects.model.lora.reference import checksum
from tests.model.lora.standins import VisionTransformer

X = torch.randn(6, 12, generator=torch.Generator().manual_seed(8))


def adapted() -> VisionTransformer:
    torch.manual_seed(0)
    model = VisionTransformer().eval()
    inject_lora(model, ["*.qkv", "*.proj"], rank=2)
    unfreeze(model, "head")
    return model


def train(model: nn.Module, steps: int, parameters: list[nn.Parameter] | None = None) -> None:
    optimizer = torch.optim.SGD(parameters or [p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        model(X).square().mean().backward()
        optimizer.step()


def test_sound_training_passes(capsys: pytest.CaptureFixture[str]) -> None:
    model = adapted()
    train(model, 2)
    found = verify(model)
    assert found.ok and not found.reasons
    found.require()
    shown = capsys.readouterr().out
    assert "base unchanged: 15 of 15 tensors" in shown and "moved: 10 of 10" in shown and "WRONG" not in shown
    assert "gradient: 10 of 10" in shown


def test_every_fault_has_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    model = adapted()
    found = verify(model)
    assert set(found.unmoved) == {name for name, p in model.named_parameters() if p.requires_grad}
    assert "no parameter holds a gradient: call verify after backward()" in capsys.readouterr().out
    train(model, 1)
    found = verify(model)
    first = tuple(name for name, _ in model.named_parameters() if name.endswith("lora_A"))
    assert found.unmoved == found.without_gradient == first
    assert "A has none before the second step" in capsys.readouterr().out
    train(model, 1, [model.get_parameter("head.weight")])
    assert len(verify(model).unmoved) == 4, "they have gradients, but the optimizer does not hold them"
    with torch.no_grad():
        model.get_parameter("blocks.0.attn.qkv.original_linear.weight")[0, 0] += 1e-6
    found = verify(model)
    assert found.base_changed == ("blocks.0.attn.qkv.weight",)
    with pytest.raises(ValueError, match=r"the base changed: blocks\.0\.attn\.qkv\.weight"):
        found.require()


def test_a_part_that_the_loss_does_not_see_is_named() -> None:
    model = adapted()
    for _ in range(2):
        features = model.get_submodule("blocks.0.attn.qkv")(X)
        features.sum().backward()
    found = verify(model, verbose=False)
    reason = next(text for text in found.reasons if "no gradient reaches" in text)
    assert "head.weight" in reason and "the loss does not depend on them" in reason


def test_running_statistics_a_cast_disabled_and_idle_adapters() -> None:
    model = adapted()
    model.norm.train()
    train(model, 2)
    assert set(verify(model, verbose=False).base_changed) >= {"norm.running_mean", "norm.running_var"}
    model = adapted()
    train(model, 2)
    model.norm.bfloat16()
    assert "norm.weight (cast from torch.float32 to torch.bfloat16)" in verify(model, verbose=False).reasons[0]
    set_lora_enabled(model, False)
    assert any("adapters are disabled" in text for text in verify(model, verbose=False).reasons)
    model.requires_grad_(False)
    assert any("nothing is trainable" in text for text in verify(model, verbose=False).reasons)


def test_loading_and_an_outer_model_are_known() -> None:
    trained = adapted()
    train(trained, 2)
    fresh = adapted()
    load_lora_state_dict(fresh, get_lora_state_dict(trained))
    outer = nn.ModuleDict({"backbone": fresh, "other": nn.Linear(2, 2).requires_grad_(False)})
    found = verify(outer, verbose=False)
    assert "backbone.blocks.0.attn.qkv.lora_B" in found.unmoved, "loaded, and not moved since"
    train(fresh, 1)
    assert verify(outer, verbose=False).ok


def test_what_can_not_be_verified() -> None:
    with pytest.raises(ValueError, match="no adapter to verify"):
        verify(VisionTransformer())
    model = adapted()
    del model.__dict__["_lora_reference"]
    with pytest.raises(ValueError, match="nothing was remembered"):
        verify(model)
    remember(model, anew=True)
    train(model, 2)
    assert verify(model, verbose=False).ok
    freeze_base_params(model)
    merge_lora_weights(model)
    with pytest.raises(ValueError, match="merged"):
        verify(model)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.int64, torch.bool])
def test_a_checksum_sees_one_change_and_an_exchange(dtype: torch.dtype) -> None:
    values = torch.arange(9001).to(dtype) if dtype != torch.bool else torch.arange(9001) % 3 == 0
    first = checksum(values)
    changed, exchanged = values.clone(), values.clone()
    changed[8999] = values[8999] == 0
    exchanged[[5, 8]] = values[[8, 5]] if dtype != torch.bool else values[[3, 4]]
    assert first == checksum(values.clone()) and first is not None
    assert checksum(changed) != first and checksum(exchanged) != first
    assert checksum(torch.empty(3, device="meta")) is None and checksum(values[:0]) is not None
