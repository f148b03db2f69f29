"""Which layers are reached, by which pattern, and what an error names."""

import re

import pytest
import torch
from torch import nn

from sam3d_objects.model.lora import (
    LoRAConfig,
    LoRALinear,
    inject_lora,
    lora_disabled,
    lora_layers,
    set_lora_enabled,
    setup_from_config,
)
from tests.model.lora.standins import (
    STREAMS,
    TwoStreamFlow,
    VisionTransformer,
    WholeModel,
    flow_inputs,
    randomise_adapters,
)


def paths(model: nn.Module) -> set[str]:
    return set(lora_layers(model))


def test_default_reaches_every_attention_projection_of_both_streams() -> None:
    model = TwoStreamFlow(blocks=3)
    expected = {
        f"blocks.{i}.{part}"
        for i in range(3)
        for stream in STREAMS
        for part in (
            f"self_attn.to_qkv.{stream}",
            f"self_attn.to_out.{stream}",
            f"cross_attn.{stream}.to_q",
            f"cross_attn.{stream}.to_kv",
            f"cross_attn.{stream}.to_out",
        )
    }
    assert inject_lora(model) == len(expected) == 30
    assert paths(model) == expected
    assert isinstance(model.get_submodule("blocks.2.self_attn.to_qkv.6drotation_normalized"), LoRALinear)


@pytest.mark.parametrize(
    "targets",
    [
        "blocks.*.self_attn.to_qkv.*",
        ["blocks.?.self_attn.to_qkv.shape", "blocks.*.to_qkv.6drotation_normalized"],
        r"re:blocks\.\d+\.self_attn\.to_qkv\..+",
        r"blocks\.\d+\.self_attn\.to_qkv\..+",
        re.compile(r".*to_qkv\.[^.]+"),
        lambda path, module: ".to_qkv." in path and isinstance(module, nn.Linear),
    ],
)
def test_globs_regular_expressions_and_callbacks_match_full_paths(targets: object) -> None:
    model = TwoStreamFlow(blocks=2)
    assert inject_lora(model, targets) == 4  # type: ignore[arg-type]  # Every kind of target in one list.
    assert paths(model) == {f"blocks.{i}.self_attn.to_qkv.{s}" for i in range(2) for s in STREAMS}


def test_fresh_adapters_change_nothing_and_the_base_is_frozen() -> None:
    model = TwoStreamFlow()
    before = model(flow_inputs())
    inject_lora(model, ["*.to_qkv.*", "*.mlp.*"])
    after = model(flow_inputs())
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(p.requires_grad == ("lora_" in name) for name, p in model.named_parameters())


def test_other_backbones() -> None:
    sequential = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    assert inject_lora(sequential, "0") == 1
    assert paths(sequential) == {"0"}
    transformer = VisionTransformer()
    assert inject_lora(transformer, ["blocks.*.attn.qkv", "blocks.*.attn.proj"]) == 4
    assert transformer(torch.randn(3, 12)).shape == (3, 5)


@pytest.mark.parametrize(
    ("pattern", "near"),
    [
        ("to_qkv", r"blocks\.\{0\.\.2\}\.self_attn\.to_qkv"),
        ("blocks.*.self_attention.to_qkv.shape", r"blocks\.\{0\.\.2\}\.self_attn\.to_qkv\.shape"),
        (r"re:blocks\.\d\.to_kv", r"blocks\.\{0\.\.2\}\.cross_attn\.\w+\.to_kv"),
    ],
)
def test_a_pattern_that_matches_nothing_is_an_error_with_the_nearest_paths(pattern: str, near: str) -> None:
    model = TwoStreamFlow()
    with pytest.raises(ValueError, match=rf"{re.escape(repr(pattern))} matches nothing .*nearest are {near}"):
        inject_lora(model, ["*.to_q", pattern])
    assert not paths(model), "an error must leave the model alone"
    assert all(p.requires_grad for p in model.parameters())


def test_the_nearest_path_of_a_pattern_without_the_models_own_prefix() -> None:
    with pytest.raises(ValueError, match=r"structure_flow\.blocks\.\{0\.\.2\}\.self_attn\.to_qkv\.shape"):
        inject_lora(WholeModel(), "blocks.*.self_attn.to_qkv.shape")


def test_a_pattern_that_matches_only_other_layers_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"matches only LayerNorm and no nn\.Linear"):
        inject_lora(TwoStreamFlow(), "blocks.*.norm2.*")
    with pytest.raises(ValueError, match="matches only GELU, LayerNorm"):
        inject_lora(TwoStreamFlow(), lambda path, module: isinstance(module, nn.LayerNorm | nn.GELU))
    with pytest.raises(ValueError, match=r"the model has no nn\.Linear, convolution.* at all"):
        inject_lora(nn.Sequential(nn.ReLU()))


def test_not_strict_warns_and_returns_what_there_was() -> None:
    model = TwoStreamFlow()
    with pytest.warns(UserWarning, match="'to_qkv' matches nothing"):
        assert inject_lora(model, "to_qkv", strict=False) == 0
    with pytest.warns(UserWarning, match="'nowhere' matches nothing"):
        assert inject_lora(model, ["nowhere", "*.to_q"], strict=False) == 6


def test_bad_targets() -> None:
    with pytest.raises(ValueError, match="no targets"):
        inject_lora(TwoStreamFlow(), [])
    with pytest.raises(ValueError, match="not a valid regular expression"):
        inject_lora(TwoStreamFlow(), "re:blocks.(")
    with pytest.raises(ValueError, match="a target is a glob"):
        inject_lora(TwoStreamFlow(), [3])  # type: ignore[list-item]  # Wrong on purpose.
    with pytest.raises(ValueError, match=r"no nn\.Linear"):
        inject_lora(nn.Linear(2, 2), "*")


def test_adapting_a_layer_twice_is_an_error_and_more_layers_are_fine() -> None:
    model = TwoStreamFlow()
    inject_lora(model)
    with pytest.raises(ValueError, match=r"blocks\.0\.self_attn\.to_qkv\.shape already has an adapter"):
        inject_lora(model)
    with pytest.raises(ValueError, match="already has an adapter"):
        inject_lora(model, "blocks.*")
    assert inject_lora(model, "blocks.*.mlp.*") == 12
    assert inject_lora(model, "t_embedder.0") == 1


def test_rank_alpha_and_dropout_per_pattern() -> None:
    model = TwoStreamFlow(blocks=2)
    count = inject_lora(
        model,
        "*.to_qkv.*",
        rank=2,
        dropout=0.1,
        patterns={"blocks.1.*": {"rank": 3}, "*.mlp.shape.*": {"rank": 5, "alpha": 1.0, "dropout": 0.0}},
    )
    layers = lora_layers(model)
    assert count == len(layers)
    first, second = layers["blocks.0.self_attn.to_qkv.shape"], layers["blocks.1.self_attn.to_qkv.shape"]
    assert (first.rank, first.alpha, first.dropout_rate) == (2, 8.0, 0.1)
    assert (second.rank, second.alpha, second.dropout_rate) == (3, 8.0, 0.1)
    last = layers["blocks.1.mlp.shape.mlp.0"]
    assert (last.rank, last.scaling, last.dropout_rate) == (5, 0.2, 0.0)
    assert "blocks.0.cross_attn.shape.to_q" not in layers


def test_patterns_alone_are_the_targets_and_their_keys_are_checked() -> None:
    model = TwoStreamFlow()
    assert inject_lora(model, patterns={"*.to_q": {"rank": 1}}) == 6
    with pytest.raises(ValueError, match=r"'\*.mlp.\*' has 'ranc'.* Did you mean 'rank'"):
        inject_lora(model, patterns={"*.mlp.*": {"ranc": 1}})
    with pytest.raises(ValueError, match="rank is a whole number"):
        inject_lora(model, "*.mlp.*", rank=-1)


def test_a_seed_or_a_generator_makes_the_adapter() -> None:
    def matrices(seed: int | None, generator: torch.Generator | None = None) -> list[torch.Tensor]:
        model = TwoStreamFlow(blocks=1)
        inject_lora(model, seed=seed, generator=generator)
        return [layer.lora_A for layer in lora_layers(model).values()]

    same = zip(matrices(7), matrices(None, torch.Generator().manual_seed(7)), strict=True)
    assert all(torch.equal(a, b) for a, b in same)
    assert not torch.equal(matrices(7)[0], matrices(8)[0])
    with pytest.raises(ValueError, match="not both"):
        matrices(1, torch.Generator())


def test_a_layer_at_two_paths_is_adapted_once_for_both() -> None:
    shared = nn.Linear(4, 4)
    model = nn.ModuleDict({"a": nn.Sequential(shared), "b": nn.Sequential(shared)})
    assert inject_lora(model, "a.0") == 1
    assert isinstance(model["a"], nn.Sequential) and isinstance(model["b"], nn.Sequential)
    assert model["a"][0] is model["b"][0]
    assert isinstance(model["a"][0], LoRALinear)


def test_enabled_switch_and_context_manager() -> None:
    model = TwoStreamFlow()
    base = model(flow_inputs())["shape"]
    inject_lora(model)
    randomise_adapters(model)
    adapted = model(flow_inputs())["shape"]
    with pytest.raises(RuntimeError, match="inside"), lora_disabled(model):
        assert torch.equal(model(flow_inputs())["shape"], base)
        raise RuntimeError("inside")
    assert torch.equal(model(flow_inputs())["shape"], adapted)
    set_lora_enabled(model, False)
    with lora_disabled(model):
        pass
    assert torch.equal(model(flow_inputs())["shape"], base), "what was off before stays off"


def test_a_config_round_trips_and_sets_a_model_up() -> None:
    config = LoRAConfig(
        rank=2, target_modules=("*.to_q",), patterns={"*.to_kv": {"rank": 1}}, trained_modules=("t_embedder",)
    )
    assert LoRAConfig.from_dict(config.to_dict()) == config
    counts = setup_from_config(TwoStreamFlow(channels=16, blocks=1), config, seed=0)
    assert counts["lora"] == 2 * (16 + 16) * 2 + 1 * (16 + 32) * 2
    assert counts["trainable"] == counts["lora"] + 32
    with pytest.raises(ValueError, match=r"got 'alfa'\. Did you mean 'alpha'"):
        LoRAConfig.from_dict({"alfa": 1})
    with pytest.raises(ValueError, match="has 'r'"):
        LoRAConfig(patterns={"*": {"r": 1}})
