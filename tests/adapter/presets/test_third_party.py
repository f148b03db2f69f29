"""Presets on `transformers`' own classes: fresh is the base, training moves what is listed, and it comes back."""

from pathlib import Path

import pytest
import torch
from torch import nn

from sam3d_objects.adapter import AdapterMeta, InferenceContract, load_adapter, read_adapter, save_adapter
from sam3d_objects.adapter.presets import PresetConfig, apply_preset
from sam3d_objects.model.lora import lora_layers, merged_model, trainable_names
from tests.adapter.presets.backbones import BACKBONES, Backbone

# Preset, and the start of the names of what trains beside the adapters.
CASES: dict[str, tuple[str, PresetConfig, tuple[str, ...]]] = {
    "eomt": (
        "eomt",
        PresetConfig("eomt", recipe="small"),
        ("query", "upscale_block", "mask_head", "class_predictor", "layernorm", "layers.{}.norm1", "layers.{}.norm2"),
    ),
    "eomt adapters only": ("eomt", PresetConfig("eomt", freeze=("adapters_only",), roles=("qkv",)), ()),
    "dinov2": ("dinov2", PresetConfig("dinov2"), ()),
    "dinov2 norms": (
        "dinov2",
        PresetConfig("dinov2", freeze=("norms",), roles=("qkv", "fc1", "fc2")),
        ("encoder.layer.{}.norm1", "encoder.layer.{}.norm2", "layernorm"),
    ),
    "vit_mae": (
        "vit_mae",
        PresetConfig("vit_mae", recipe="medium"),
        ("decoder",),
    ),
    "vit_mae heads": ("vit_mae", PresetConfig("vit_mae", freeze=("heads",)), ("decoder.decoder_pred",)),
    "clip": ("clip", PresetConfig("clip"), ("visual_projection", "text_projection")),
    "clip vision": ("clip", PresetConfig("clip", parts=("vision",)), ("visual_projection",)),
    "clip text": ("clip", PresetConfig("clip", parts=("text",), roles=("qkv", "fc1")), ("text_projection",)),
    "clip classifier": ("clip_classifier", PresetConfig("clip"), ("classifier",)),
    "auto on eomt": ("eomt", PresetConfig(recipe="small"), ("upscale_block", "mask_head", "class_predictor")),
    "auto on clip": ("clip", PresetConfig(), ("visual_projection", "text_projection")),
}
# How many layers of a two-block model each preset adapts: (in a block) x 2, CLIP's towers 4 x 2 each.
LAYERS = {"eomt": 12, "eomt adapters only": 6, "dinov2": 8, "dinov2 norms": 10, "vit_mae": 6, "vit_mae heads": 6}
LAYERS |= {"clip": 16, "clip vision": 8, "clip text": 8, "clip classifier": 8, "auto on eomt": 12, "auto on clip": 24}
META = AdapterMeta(
    stage="segmenter",
    base_name="a ViT",
    base_fingerprint="of-the-base",
    organs=("liver",),
    contract=InferenceContract(field_of_view="scan", modality="ct"),
)


def adapted(case: str) -> tuple[Backbone, nn.Module]:
    name, config, _ = CASES[case]
    model = BACKBONES[name].make()
    apply_preset(model, config, seed=3, verbose=False)
    return BACKBONES[name], model


def train(backbone: Backbone, model: nn.Module, steps: int = 2) -> None:
    """Take optimiser steps on a loss that every output has a part in."""
    optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    model.train()
    for _ in range(steps):
        optimiser.zero_grad()
        loss = sum((output - 0.3).square().mean() for output in backbone.run(model))
        assert isinstance(loss, torch.Tensor)
        loss.backward()
        optimiser.step()
    model.eval()


def snapshot(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def listed(model: nn.Module, starts: tuple[str, ...]) -> set[str]:
    wanted = tuple(f"{start.format(block)}" for start in starts for block in (0, 1))
    names = [name for name, _ in model.named_parameters()]
    return {name for name in names if any(name == want or name.startswith(f"{want}.") for want in wanted)}


@pytest.mark.parametrize("case", CASES)
def test_a_fresh_adapter_is_its_base(case: str) -> None:
    backbone, model = adapted(case)
    base = backbone.make()
    # Frozen alike: torch multiplies some slices in another order where a weight asks for gradients (1e-7 off).
    for name, parameter in base.named_parameters():
        parameter.requires_grad_(name in trainable_names(model))
    with torch.no_grad():
        for ours, theirs in zip(backbone.run(model), backbone.run(base), strict=True):
            assert torch.equal(ours, theirs)
    assert len(lora_layers(model)) == LAYERS[case]


@pytest.mark.parametrize("case", CASES)
def test_two_steps_move_every_adapter_tensor_and_what_the_strategy_lists_and_nothing_else(case: str) -> None:
    torch.manual_seed(0)
    backbone, model = adapted(case)
    matrices = {f"{path}.{leaf}" for path in lora_layers(model) for leaf in ("lora_A", "lora_B")}
    beside = listed(model, CASES[case][2]) - {"decoder.decoder_pos_embed"}  # sines: the model holds them fixed
    assert set(trainable_names(model)) == matrices | beside
    before = snapshot(model)
    train(backbone, model)
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    # The bias of a key adds the same to all scores of a query: softmax removes it, but for rounding.
    silent = {name for name in beside if name.endswith("k_proj.bias")}
    assert moved - silent == (matrices | beside) - silent


@pytest.mark.parametrize("case", CASES)
def test_saved_loaded_and_merged_are_the_trained_model(case: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    name, config, _ = CASES[case]
    backbone = BACKBONES[name]
    model = backbone.make()
    plan = apply_preset(model, config, seed=3, verbose=False)
    train(backbone, model)
    save_adapter(tmp_path / "adapter", model, plan.config, META)
    fresh = backbone.make()
    load_adapter(tmp_path / "adapter", fresh, base_fingerprint="of-the-base")
    with torch.no_grad():
        trained = backbone.run(model)
        assert not torch.allclose(trained[0], backbone.run(backbone.make())[0], atol=1e-3)
        for ours, theirs in zip(backbone.run(fresh.eval()), trained, strict=True):
            assert torch.equal(ours, theirs)
        for ours, theirs in zip(backbone.run(merged_model(model)), trained, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    # Nothing is retyped: the folder's own record makes the same adapters.
    assert read_adapter(tmp_path / "adapter").config == plan.config
