"""Several adapters on one model: switching, sums, heads of their own, merging and taking out."""

import copy

import pytest
import torch
from torch import Tensor, nn

from sam3d_objects.model.lora import (
    active_adapters,
    adapter_names,
    combine_adapters,
    count_parameters,
    delete_adapter,
    get_lora_state_dict,
    has_lora,
    inject_lora,
    load_lora_state_dict,
    lora_disabled,
    lora_layers,
    lora_summary,
    merge_lora_weights,
    merged_model,
    trainable_names,
    unfreeze,
    unmerge_lora_weights,
    use_adapter,
    using_adapter,
)
from tests.model.lora.standins import VisionTransformer, randomise_adapters

X = torch.randn(5, 12, generator=torch.Generator().manual_seed(8))
ATTENTION = ["*.qkv", "*.proj"]


def base() -> VisionTransformer:
    torch.manual_seed(0)
    return VisionTransformer().eval()


def two(**options: object) -> VisionTransformer:
    """A model with the trained adapters `default`, on attention, and `site_b`, on qkv alone and of another rank."""
    model = base()
    inject_lora(model, ATTENTION, rank=2, seed=0)
    randomise_adapters(model, seed=1)
    inject_lora(model, "*.qkv", rank=3, alpha=1.5, adapter="site_b", seed=0, patterns={"*.qkv": options})
    randomise_adapters(model, seed=2)
    return model


def out(model: nn.Module) -> Tensor:
    with torch.no_grad():
        result: Tensor = model(X)
    return result


def test_switching_needs_no_reload_and_only_what_is_in_use_trains() -> None:
    model = two()
    assert adapter_names(model) == ["default", "site_b"] and active_adapters(model) == {"site_b": 1.0}
    assert all(".adapters.site_b." in name for name in trainable_names(model)) and len(trainable_names(model)) == 4
    second = out(model)
    use_adapter(model, "default")
    first = out(model)
    assert {name.rpartition(".")[2] for name in trainable_names(model)} == {"lora_A", "lora_B"}
    assert not any("site_b" in name for name in trainable_names(model))
    alone = base()
    inject_lora(alone, ATTENTION, rank=2)
    load_lora_state_dict(alone, get_lora_state_dict(model, "default"))
    assert torch.equal(first, out(alone))
    use_adapter(model, "site_b")
    assert torch.equal(second, out(model))
    use_adapter(model, {})
    assert torch.equal(out(model), out(base())) and not trainable_names(model)


def test_the_block_that_uses_another_adapter_puts_the_first_back_even_after_an_error() -> None:
    model = two()
    before = out(model)
    with pytest.raises(RuntimeError, match="within"), using_adapter(model, "default"):
        assert active_adapters(model) == {"default": 1.0}
        raise RuntimeError("within")
    assert torch.equal(out(model), before)
    with lora_disabled(model):
        assert torch.equal(out(model), out(base()))


@pytest.mark.parametrize("options", [{}, {"init": "pissa"}, {"parts": "q_v"}, {"rslora": True, "init": "gaussian"}])
def test_a_weighted_sum_is_the_sum_of_the_updates(options: dict[str, object]) -> None:
    model, weights = two(**options), {"default": 0.7, "site_b": -0.4}
    path = "blocks.1.attn.qkv"
    layer = lora_layers(model)[path]
    updates = {}
    for name in weights:
        use_adapter(model, name)
        updates[name] = layer.weight.detach() - layer.original_weight
    use_adapter(model, weights)
    live, expected = out(model), sum(w * updates[name] for name, w in weights.items())
    torch.testing.assert_close(layer.weight - layer.original_weight, expected, rtol=1e-4, atol=1e-5)
    assert combine_adapters(model, weights, "sum") == 4
    assert active_adapters(model) == weights, "what is in use stays"
    use_adapter(model, "sum")
    torch.testing.assert_close(out(model), live, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(out(merged_model(model)), live, rtol=1e-5, atol=1e-5)


def test_doras_are_summed_in_use_but_not_into_one_adapter() -> None:
    model = two(dora=True)
    use_adapter(model, {"default": 1.0, "site_b": 1.0})
    torch.testing.assert_close(out(merged_model(model)), out(model), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r"blocks\.0\.attn\.qkv has DoRA"):
        combine_adapters(model, {"default": 1.0, "site_b": 1.0}, "sum")


def test_averaging_matrices_is_not_averaging_updates() -> None:
    """Why a sum of adapters puts matrices side by side."""
    model = base()
    for name, seed in (("default", 1), ("other", 2)):
        inject_lora(model, "*.qkv", rank=2, adapter=name)
        randomise_adapters(model, seed)
    combine_adapters(model, {"default": 0.5, "other": 0.5}, "mean")
    layer = lora_layers(model)["blocks.0.attn.qkv"]
    one, two_ = layer.tensors_of("default"), layer.tensors_of("other")
    b, a = ((one[leaf] + two_[leaf]) / 2 for leaf in ("lora_B", "lora_A"))
    apart = layer.options["default"].scaling * b @ a
    use_adapter(model, "mean")
    assert ((layer.weight - layer.original_weight) - apart).abs().max() > 0.01


def test_each_adapter_has_heads_of_its_own() -> None:
    model = base()
    plain = out(model)
    results, states = {}, {}
    for name, seed in (("default", 1), ("site_b", 2)):
        inject_lora(model, "*.qkv", adapter=name, seed=seed)
        assert torch.equal(out(model), plain), "a new adapter starts with the base's heads"
        unfreeze(model, ["head", "norm"])
        randomise_adapters(model, seed)
        model.get_buffer("norm.running_mean").add_(seed)
        results[name], states[name] = out(model), get_lora_state_dict(model)
    for name in ("default", "site_b", "default"):
        use_adapter(model, name)
        assert torch.equal(out(model), results[name])
        assert {"head.weight", "norm.bias"} <= set(trainable_names(model))
    for name, state in states.items():
        kept = get_lora_state_dict(model, name)
        assert kept.keys() == state.keys() and all(torch.equal(kept[key], state[key]) for key in state)
    use_adapter(model, {})
    assert torch.equal(out(model), plain) and not trainable_names(model)
    use_adapter(model, {"default": 0.5, "site_b": 0.5})
    mean = (states["default"]["head.weight"] + states["site_b"]["head.weight"]) / 2
    torch.testing.assert_close(model.head.weight, mean)
    copied = copy.deepcopy(model)
    use_adapter(copied, "site_b")
    assert torch.equal(out(copied), results["site_b"]) and active_adapters(model) == {"default": 0.5, "site_b": 0.5}


def test_heads_that_were_unfrozen_by_hand_are_not_lost_silently() -> None:
    model = base()
    inject_lora(model, "*.qkv")
    model.head.requires_grad_(True)
    with pytest.raises(ValueError, match=r"before training is not known.*head\.weight.*by `unfreeze`"):
        inject_lora(model, "*.qkv", adapter="site_b")
    assert adapter_names(model) == ["default"]


def test_a_head_of_one_adapter_is_not_adapted_by_another() -> None:
    model = base()
    inject_lora(model, "*.qkv")
    unfreeze(model, "head")
    for _ in range(2):
        with pytest.raises(ValueError, match="head is trained fully"):
            inject_lora(model, "head", adapter="site_b")
        use_adapter(model, {})


def test_unknown_bad_and_taken_names() -> None:
    model = two()
    with pytest.raises(ValueError, match=r"adapters default, site_b, not 'site_c'. Did you mean 'site_b'"):
        use_adapter(model, "site_c")
    with pytest.raises(ValueError, match="has no adapter, not 'default'"):
        use_adapter(base(), "default")
    with pytest.raises(ValueError, match=r"blocks\.0\.attn\.qkv already has the adapter 'site_b'"):
        inject_lora(model, "*.qkv", adapter="site_b")
    for name in ("", "a.b", "a b", "x" * 65, "training"):
        with pytest.raises(ValueError, match="1 to 64 letters"):
            inject_lora(model, "*.qkv", adapter=name)
    with pytest.raises(ValueError, match="a new name"):
        combine_adapters(model, {"default": 1.0}, "site_b")
    with pytest.raises(ValueError, match="name one of the adapters"):
        use_adapter(model, {"default": 1.0, "site_b": 1.0})
        get_lora_state_dict(model)


def test_deleting_gives_plain_layers_back_where_no_other_adapter_is() -> None:
    model = two()
    assert delete_adapter(model, "default") == 4
    assert adapter_names(model) == ["site_b"] and set(lora_layers(model)) == {f"blocks.{i}.attn.qkv" for i in range(2)}
    assert type(model.get_submodule("blocks.0.attn.proj")) is nn.Linear
    assert not any(name.endswith("qkv.lora_A") for name in model.state_dict())
    assert delete_adapter(model, "site_b") == 2
    assert not has_lora(model) and torch.equal(out(model), out(base()))
    assert model.state_dict().keys() == base().state_dict().keys()


def test_counts_and_summary_show_all_adapters() -> None:
    model = two()
    counts, qkv, proj = count_parameters(model), 12 + 36, 12 + 12
    assert counts["lora"] == 2 * (2 * qkv + 2 * proj + 3 * qkv) and counts["trainable"] == 2 * 3 * qkv
    text = lora_summary(model)
    assert "12->36 r3 alpha 1.5 adapter site_b  x2" in text and "12->36 r2 alpha 8 (not in use)  x2" in text


def test_merging_what_is_in_use_and_taking_it_out_again() -> None:
    model = two()
    second = out(model)
    assert merge_lora_weights(model, keep=True) == 4
    torch.testing.assert_close(out(model), second, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match=r"merged already \(blocks.*unmerge it"):
        inject_lora(model, "head", adapter="third")
    with pytest.raises(ValueError, match="merged already"):
        merge_lora_weights(model)
    with pytest.raises(ValueError, match="merged already"):
        use_adapter(model, "default")
    assert unmerge_lora_weights(model) == 4
    assert torch.equal(out(model), second)
    use_adapter(model, {})
    assert torch.equal(out(model), out(base())), "the base, bit for bit"


def test_what_was_not_kept_is_not_taken_out() -> None:
    model = two()
    copied = merged_model(model)
    with pytest.raises(ValueError, match=r"was not kept.*merge with keep=True"):
        unmerge_lora_weights(copied)
    with pytest.raises(ValueError, match="merged already"):
        inject_lora(copied, "*.qkv")
    with pytest.raises(ValueError, match="not merged"):
        unmerge_lora_weights(model)
    use_adapter(model, {})
    with pytest.raises(ValueError, match="no adapter is in use"):
        merge_lora_weights(model)
