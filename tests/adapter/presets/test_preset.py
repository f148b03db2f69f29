"""Preset files: those of the package load, SAM 3D's are what training does, every library's names are found."""

from pathlib import Path

import pytest
from torch import nn

from sam3d_objects.adapter.presets import PresetConfig, load_preset, plan_preset, preset_names
from sam3d_objects.config.train import LORA_DEFAULTS, STAGE_DEFAULTS
from sam3d_objects.model.lora import DEFAULT_TARGETS, MLP_TARGETS, plan_injection
from sam3d_objects.model.lora.config import LayerOptions
from sam3d_objects.training.stages.decoder_options import DecoderOptions
from sam3d_objects.training.stages.latent_options import LatentOptions
from sam3d_objects.training.stages.structure_options import StructureOptions
from tests.adapter.presets.names import blocks, linear, tree

TIMM = ["attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"]
HF4 = [f"attention.attention.{name}" for name in ("query", "key", "value")] + ["attention.output.dense"]
HF5 = [f"attention.{name}_proj" for name in "qkv"]


def adapted(model: nn.Module, config: PresetConfig) -> set[str]:
    """Paths that a preset adapts."""
    plan = plan_preset(model, config).config
    return set(plan_injection(model, plan.target_modules, LayerOptions(), {}))


def test_the_presets_of_the_package_load() -> None:
    names = preset_names()
    wanted = {"sam3d_structure", "sam3d_latent", "sam3d_decoder", "eomt", "dinov2", "vit_mae", "clip", "auto"}
    assert set(names) == wanted
    for name in wanted - {"auto"}:
        preset = load_preset(name)
        assert preset.name == name and preset.description and preset.targets() and preset.backbone


@pytest.mark.parametrize(
    ("stage", "options"), [("structure", StructureOptions), ("latent", LatentOptions), ("decoder", DecoderOptions)]
)
def test_sam3d_s_presets_are_what_training_does(stage: str, options: type) -> None:
    preset, usual = load_preset(f"sam3d_{stage}"), STAGE_DEFAULTS[stage]
    assert preset.targets() == ((*DEFAULT_TARGETS, *MLP_TARGETS) if usual["lora_mlp"] else DEFAULT_TARGETS)
    assert preset.targets(("mlp",)) == MLP_TARGETS
    assert preset.heads == vars(options)["heads"]
    assert preset.freeze == (("heads",) if usual["train_heads"] else ("adapters_only",))
    assert (preset.rank, preset.alpha, preset.dropout) == tuple(LORA_DEFAULTS.values())


@pytest.mark.parametrize(
    ("preset", "prefix", "leaves", "others"),
    [
        ("eomt", "network.encoder.backbone.blocks", TIMM, ["network.mask_head.0", "network.class_head", "network.q"]),
        ("eomt", "layers", [*HF5, "attention.out_proj", "mlp.fc1", "mlp.fc2"], ["mask_head.fc1", "class_predictor"]),
        ("dinov2", "blocks", TIMM[:2], ["patch_embed.proj", "blocks.0.mlp.fc1"]),
        ("dinov2", "dinov2.encoder.layer", HF4, ["classifier", "dinov2.encoder.layer.0.mlp.fc1"]),
        ("vit_mae", "blocks", ["attn.qkv"], ["decoder_blocks.0.attn.qkv", "blocks.0.attn.proj"]),
        ("vit_mae", "vit.encoder.layer", HF4[:3], ["decoder.decoder_layers.0.attention.attention.query"]),
        ("vit_mae", "vit.layers", HF5, ["decoder.decoder_layers.0.attention.q_proj", "vit.layers.0.mlp.fc1"]),
    ],
)
def test_every_library_s_names(preset: str, prefix: str, leaves: list[str], others: list[str]) -> None:
    wanted = blocks(prefix, leaves)
    config = PresetConfig(preset, freeze=("adapters_only",))
    assert adapted(linear([*wanted, *others]), config) == set(wanted)


def test_clip_s_parts_and_roles() -> None:
    attention = [*(f"self_attn.{name}_proj" for name in "qkv"), "self_attn.out_proj"]
    towers = {
        part: set(blocks(f"clip.{part}_model.encoder.layers", [*attention, "mlp.fc1"])) for part in ("vision", "text")
    }
    model = linear([*towers["vision"], *towers["text"], "clip.visual_projection", "clip.text_projection", "classifier"])
    for parts in (("vision",), ("text",), ("vision", "text"), ()):
        found = set().union(*(towers[part] for part in parts or towers))
        config = PresetConfig("clip", parts=parts)
        assert adapted(model, config) == {path for path in found if not path.endswith("fc1")}
        assert adapted(model, PresetConfig("clip", parts=parts, roles=("fc1",))) == {
            path for path in found if path.endswith("fc1")
        }
        heads = {"vision": "clip.visual_projection", "text": "clip.text_projection"}
        wanted = {"classifier", *(heads[part] for part in parts or heads)}
        assert set(plan_preset(model, config).config.trained_modules) == wanted


def test_what_the_model_lacks_is_named_with_what_is_near() -> None:
    model = linear([*blocks("layers", HF5), "classifier"])
    with pytest.raises(ValueError, match=r"'eomt' finds no layer for 'proj' in this Module: .*nearest"):
        plan_preset(model, PresetConfig("eomt"))
    with pytest.raises(ValueError, match=r"'eomt': heads: not in this Module; .*nearest"):
        plan_preset(linear(blocks("layers", HF5)), PresetConfig("eomt", roles=("qkv",)))
    with pytest.raises(ValueError, match=r"role 'qvk' does not exist.*Did you mean 'qkv'"):
        plan_preset(model, PresetConfig("eomt", roles=("qvk",)))
    with pytest.raises(ValueError, match=r"part 'visoin' does not exist.*Did you mean 'vision'"):
        plan_preset(model, PresetConfig("clip", parts=("visoin",)))
    with pytest.raises(ValueError, match="finds no layer for 'qkv'"):
        plan_preset(model, PresetConfig("clip", parts=("text",)))
    with pytest.raises(ValueError, match=r"there is no preset 'emot'.*Did you mean 'eomt'"):
        plan_preset(model, PresetConfig("emot"))
    with pytest.raises(ValueError, match="nothing is outside the backbone; take adapters_only"):
        plan_preset(linear(blocks("layers", HF5)), PresetConfig("vit_mae"))


OWN = """
description: mine
parts:
  all:
    targets: {attention: ['*.attn.*'], mlp: '*.mlp'}
    norms: ['*.norm']
heads: [head]
backbone: [blocks]
roles: [attention]
freeze: [heads, norms]
rank: 2
"""


def test_a_preset_of_your_own(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(OWN)
    layers: dict[str, nn.Module] = {path: nn.Linear(4, 4) for path in blocks("blocks", ["attn.q", "mlp"])}
    layers |= {"blocks.0.norm": nn.LayerNorm(4), "head": nn.Linear(4, 4), "other": nn.Linear(4, 4)}
    made = plan_preset(tree(layers), PresetConfig(str(tmp_path / "mine.yaml"))).config
    assert (made.rank, made.alpha, made.target_modules) == (2, 16.0, ("*.attn.*",))
    assert made.trained_modules == ("blocks.0.norm", "head")
    outside = PresetConfig(str(tmp_path / "mine.yaml"), freeze=("backbone_only",), rank=3)
    made = plan_preset(tree(layers), outside).config
    assert (made.rank, made.alpha, made.trained_modules) == (3, 6.0, ("head", "other"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("heads:", "haeds:", r"key 'haeds' does not exist.*Did you mean 'heads'"),
        ("norms: ['*.norm']", "nroms: []", r"part 'all': key 'nroms' does not exist"),
        ("freeze: [heads, norms]", "freeze: [head]", r"got 'head'\. Did you mean 'heads'"),
        ("roles: [attention]", "roles: [atention]", r"role 'atention' does not exist"),
        ("heads: [head]", "heads: [3]", r"heads is a list of texts, got \[3\]"),
        ("heads: [head]", "heads: ['re:(']", "not a valid regular expression"),
        ("rank: 2", "rank: 0", "rank is a whole number of at least 1"),
        ("targets: {attention: ['*.attn.*'], mlp: '*.mlp'}", "targets: {}", "has no targets"),
        ("description: mine", "description: {", "is not valid YAML"),
    ],
)
def test_a_preset_that_is_wrong(old: str, new: str, message: str, tmp_path: Path) -> None:
    assert old in OWN
    (tmp_path / "mine.yaml").write_text(OWN.replace(old, new))
    with pytest.raises(ValueError, match=message):
        load_preset(str(tmp_path / "mine.yaml"))
