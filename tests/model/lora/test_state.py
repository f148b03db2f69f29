"""Saving, strict loading, merging."""

import pytest
import torch
from torch import Tensor, nn

from sam3d_objects.model.lora import (
    LoRALinear,
    base_state_dict,
    get_lora_state_dict,
    has_lora,
    inject_lora,
    load_lora_state_dict,
    merge_lora_weights,
    merged_model,
    set_lora_enabled,
    setup_lora_for_medical_finetuning,
    unfreeze,
)
from tests.model.lora.standins import TwoStreamFlow, VisionTransformer, flow_inputs, randomise_adapters


def adapted_flow(seed: int = 0) -> TwoStreamFlow:
    torch.manual_seed(seed)
    model = TwoStreamFlow(blocks=2)
    setup_lora_for_medical_finetuning(model, rank=3, verbose=False)
    randomise_adapters(model, seed)
    return model


def same_outputs(a: nn.Module, b: nn.Module) -> bool:
    first, second = a(flow_inputs()), b(flow_inputs())
    return all(torch.equal(first[name], second[name]) for name in first)


def test_the_state_holds_the_adapter_and_what_else_trains_and_nothing_more() -> None:
    model = adapted_flow()
    state = get_lora_state_dict(model)
    assert set(state) == {name for name, p in model.named_parameters() if p.requires_grad}
    assert {"blocks.0.self_attn.to_qkv.shape.lora_A", "latent_mapping.scale.out_layer.bias"} <= set(state)
    kept = state["blocks.0.self_attn.to_qkv.shape.lora_A"].clone()
    randomise_adapters(model, seed=9)
    assert torch.equal(state["blocks.0.self_attn.to_qkv.shape.lora_A"], kept), "a copy, not a view"


def test_only_adapters_after_a_bare_injection() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    inject_lora(model, "1")
    assert set(get_lora_state_dict(model)) == {"1.lora_A", "1.lora_B"}


def test_a_reloaded_adapter_gives_the_same_outputs() -> None:
    """Heads that trained beside LoRA come along: without them reload differs."""
    trained = adapted_flow()
    fresh = adapted_flow()
    randomise_adapters(fresh, seed=11)
    assert not same_outputs(trained, fresh)
    assert load_lora_state_dict(fresh, get_lora_state_dict(trained)) == ([], [])
    assert same_outputs(trained, fresh)


def test_running_statistics_of_unfrozen_norms_are_saved() -> None:
    model = VisionTransformer()
    inject_lora(model, "*.qkv")
    assert "norm.running_mean" not in get_lora_state_dict(model)
    unfreeze(model, "norm")
    state = get_lora_state_dict(model)
    assert {"norm.weight", "norm.bias", "norm.running_mean", "norm.num_batches_tracked"} <= set(state)
    load_lora_state_dict(model, state)


def test_strict_loading_names_every_problem_and_changes_nothing() -> None:
    model = adapted_flow()
    before = get_lora_state_dict(model)
    state: dict[str, Tensor] = {name: tensor + 1 for name, tensor in before.items()}
    del state["blocks.0.cross_attn.shape.to_q.lora_A"]
    state["blocks.7.elsewhere.lora_B"] = torch.zeros(2)
    state["blocks.1.cross_attn.shape.to_q.lora_B"] = torch.zeros(16, 4)
    state["latent_mapping.scale.out_layer.bias"] = torch.zeros(3, dtype=torch.int64)
    with pytest.raises(ValueError) as error:
        load_lora_state_dict(model, state)
    message = str(error.value)
    assert "missing: blocks.0.cross_attn.shape.to_q.lora_A" in message
    assert "not in the model: blocks.7.elsewhere.lora_B" in message
    assert "blocks.1.cross_attn.shape.to_q.lora_B has shape (16, 4), the model needs (16, 3)" in message
    assert "latent_mapping.scale.out_layer.bias holds torch.int64" in message
    after = get_lora_state_dict(model)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_loading_that_is_not_strict_reports_and_still_refuses_shapes() -> None:
    model = adapted_flow()
    state = {"blocks.0.cross_attn.shape.to_q.lora_A": torch.ones(3, 16), "other": torch.zeros(1)}
    result = load_lora_state_dict(model, state, strict=False)
    assert result.unexpected_keys == ["other"]
    assert "blocks.0.cross_attn.shape.to_q.lora_B" in result.missing_keys
    layer = model.get_submodule("blocks.0.cross_attn.shape.to_q")
    assert isinstance(layer, LoRALinear) and torch.equal(layer.lora_A, torch.ones(3, 16))
    state["blocks.0.cross_attn.shape.to_q.lora_A"] = torch.ones(4, 16)
    with pytest.raises(ValueError, match="has shape"):
        load_lora_state_dict(model, state, strict=False)


def test_loading_into_a_model_without_adapters_says_so() -> None:
    model = TwoStreamFlow().requires_grad_(False)
    with pytest.raises(ValueError, match="it has no adapter"):
        load_lora_state_dict(model, get_lora_state_dict(adapted_flow()))


def test_merged_equals_adapted_and_has_no_trace_of_lora() -> None:
    model = adapted_flow()
    names = set(TwoStreamFlow(blocks=2).state_dict())
    adapted = model(flow_inputs())
    merged = merged_model(model)
    assert has_lora(model) and not has_lora(merged), "the copy is merged, the model is not"
    assert set(merged.state_dict()) == names
    assert all(type(a) is type(b) for a, b in zip(merged.modules(), TwoStreamFlow(blocks=2).modules(), strict=True))
    out = merged(flow_inputs())
    for name in adapted:
        assert (out[name] - adapted[name]).abs().max() <= 1e-5 * adapted[name].abs().max()
    assert merge_lora_weights(model) == 20
    assert same_outputs(model, merged)


def test_merging_keeps_shared_layers_shared_and_modes() -> None:
    shared = nn.Linear(4, 4)
    model = nn.ModuleDict({"a": shared, "b": shared}).eval()
    inject_lora(model, "a")
    assert merge_lora_weights(model) == 1
    assert model["a"] is model["b"] and not model["a"].training


def test_what_cannot_be_merged_is_an_error() -> None:
    with pytest.raises(ValueError, match="no adapter to merge"):
        merge_lora_weights(TwoStreamFlow())
    model = adapted_flow()
    set_lora_enabled(model, False)
    with pytest.raises(ValueError, match=r"disabled adapters are not merged.*blocks\.0"):
        merge_lora_weights(model)
    layer = LoRALinear(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="merge_weights"):
        merge_lora_weights(layer)
    assert type(merged_model(layer)) is nn.Linear


def test_the_base_can_be_read_under_its_own_names() -> None:
    base = TwoStreamFlow(blocks=1)
    expected = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    inject_lora(base)
    randomise_adapters(base)
    recovered = base_state_dict(base)
    assert recovered.keys() == expected.keys()
    assert all(torch.equal(recovered[name], expected[name]) for name in expected)
