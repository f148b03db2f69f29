"""`auto`: what it adapts in models that it has never seen, and why."""

import pytest
import torch
from torch import nn

from sam3d_objects.adapter.presets import PresetConfig, apply_preset, propose
from sam3d_objects.model.lora import lora_layers, trained_fully
from tests.adapter.presets.names import C, blocks, linear, tree


def test_attention_and_feed_forward_of_the_blocks_and_a_head_behind_them() -> None:
    names = ["patch_embed.proj", *blocks("body.stages", ["my_attn.q", "my_attn.kv", "ffn.up", "ada_modulation.x"])]
    layers: dict[str, nn.Module] = {path: nn.Linear(C, C) for path in names}
    layers |= {"body.stages.0.ada_modulation.x": nn.Linear(C, 6 * C), "tokens": nn.Embedding(9, C)}
    layers |= {"body.norm": nn.LayerNorm(C), "out": nn.Linear(C, C)}
    layers |= {f"body.stages.{n}.pre_norm": nn.LayerNorm(C) for n in (0, 1)}
    layers["body.stages.1.tiny"] = nn.Linear(C, 2)
    proposal = propose(tree(layers), rank=4)
    (part,) = proposal.preset.parts.values()
    assert part.targets == {
        "attention": (r"re:body\.stages\.\d+\.my_attn\.q", r"re:body\.stages\.\d+\.my_attn\.kv"),
        "mlp": (r"re:body\.stages\.\d+\.ffn\.up",),
    }
    assert part.heads == ("out",)
    assert part.norms == ("body.stages.0.pre_norm", "body.stages.1.pre_norm")
    reasons = {path: decision.reason for path, decision in proposal.decisions.items()}
    assert reasons["body.stages.1.tiny"] == "at rank 4 an adapter would be no smaller than the layer"
    assert reasons["body.stages.0.ada_modulation.x"].startswith("steers the block")
    assert reasons["patch_embed.proj"].startswith("outside the attention blocks")
    assert reasons["body.stages.0.my_attn.q"] == "projection of my_attn"
    lines = proposal.text.splitlines()
    assert "  adapt  body.stages.{0..1}.my_attn.q         attention: projection of my_attn" in lines
    assert "  head   out                                  behind the last block; the strategy heads trains it" in lines


def test_a_pattern_never_reaches_a_layer_that_was_left_out() -> None:
    model = linear(blocks("blocks", ["attn.q", "attn.k"], count=3))
    model.get_submodule("blocks.1.attn").add_module("k", nn.Linear(C, 2))
    (part,) = propose(model).preset.parts.values()
    assert part.targets["attention"] == (r"re:blocks\.\d+\.attn\.q", "blocks.0.attn.k", "blocks.2.attn.k")


def test_a_model_without_attention_has_all_layers_but_the_last_adapted() -> None:
    model = nn.Sequential(nn.Linear(C, C), nn.ReLU(), nn.Linear(C, C), nn.ReLU(), nn.Linear(C, 3))
    plan = apply_preset(model, PresetConfig(), verbose=False)
    assert set(lora_layers(model)) == {"0", "2"}
    assert trained_fully(model) == (["4"], [])
    assert "layers: Linear of a model without attention" in plan.text


def test_it_prints_what_it_proposes_and_what_trains(capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    model = linear([*blocks("blocks", ["attn.qkv"]), "head"])
    apply_preset(model, PresetConfig(recipe="auto"), samples=2_500)
    printed = capsys.readouterr().out
    for part in (
        "recipe medium (2,500 training samples, 2,000 to 5,000 samples): rank 8",
        "adapt  blocks.{0..1}.attn.qkv  attention: projection of attn",
        "freeze heads: the adapters train, and the model's heads fully",
        "LoRA on 2 layers",
        "trained fully",
    ):
        assert part in printed


def test_roles_of_a_proposal_can_be_chosen_and_what_it_does_not_know_is_refused() -> None:
    model = linear([*blocks("blocks", ["attn.qkv", "mlp.up"]), "head"])
    apply_preset(model, PresetConfig(roles=("mlp",), freeze=("adapters_only",)), verbose=False)
    assert set(lora_layers(model)) == {"blocks.0.mlp.up", "blocks.1.mlp.up"}
    fresh = linear([*blocks("blocks", ["attn.qkv"]), "head"])
    with pytest.raises(ValueError, match="'auto': backbone_only: not in this Module; it names none"):
        apply_preset(fresh, PresetConfig(freeze=("backbone_only",)))
    assert not lora_layers(fresh) and all(p.requires_grad for p in fresh.parameters()), "nothing has changed"


def test_a_model_with_nothing_to_adapt() -> None:
    with pytest.raises(ValueError, match=r"finds nothing to adapt in this Module; name a preset"):
        propose(linear(["only"]))
