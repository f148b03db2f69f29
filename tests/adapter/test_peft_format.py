"""What PEFT finds in an adapter folder; with PEFT installed, that it computes the same."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from sam3d_objects.adapter import save_adapter
from sam3d_objects.adapter.peft_format import from_peft_name, to_peft_name
from sam3d_objects.model.lora import LoRAConfig, inject_lora, unfreeze
from tests.adapter.records import META
from tests.model.lora.standins import TwoStreamFlow, VisionTransformer, flow_inputs, randomise_adapters

# The fields of peft.LoraConfig (0.21) that we set; its reader refuses or warns of others.
PEFT_KEYS = {
    "alpha_pattern",
    "base_model_name_or_path",
    "bias",
    "fan_in_fan_out",
    "inference_mode",
    "init_lora_weights",
    "lora_alpha",
    "lora_dropout",
    "modules_to_save",
    "peft_type",
    "r",
    "rank_pattern",
    "target_modules",
    "task_type",
    "use_dora",
    "use_rslora",
}


def saved_flow(folder: Path) -> TwoStreamFlow:
    torch.manual_seed(0)
    model = TwoStreamFlow(blocks=2)
    inject_lora(model, "*.to_qkv.*", rank=3, alpha=6.0, patterns={"blocks.1.*.to_q": {"rank": 2, "alpha": 1.5}})
    unfreeze(model, ["latent_mapping.*.out_layer", "blocks.0.norm2"])
    randomise_adapters(model)
    save_adapter(folder, model, LoRAConfig(rank=3), META)
    return model


def test_names_go_both_ways() -> None:
    for own, peft in {
        "blocks.0.to_q.lora_A": "base_model.model.blocks.0.to_q.lora_A.weight",
        "blocks.0.to_q.lora_B": "base_model.model.blocks.0.to_q.lora_B.weight",
        "head.weight": "base_model.model.head.weight",
        "pos_emb": "base_model.model.pos_emb",
    }.items():
        assert to_peft_name(own) == peft
        assert from_peft_name(peft) == own
    with pytest.raises(ValueError, match="no adapter's tensor"):
        from_peft_name("blocks.0.to_q.lora_A.weight")


def test_the_config_has_pefts_keys_only_and_every_layers_options(tmp_path: Path) -> None:
    saved_flow(tmp_path / "a")
    config = json.loads((tmp_path / "a/adapter_config.json").read_text())
    assert set(config) == PEFT_KEYS
    assert (config["r"], config["lora_alpha"], config["peft_type"]) == (3, 6, "LORA")
    assert "blocks.0.self_attn.to_qkv.shape" in config["target_modules"]
    assert config["rank_pattern"]["blocks.1.cross_attn.shape.to_q"] == 2
    assert config["alpha_pattern"]["blocks.1.cross_attn.shape.to_q"] == 1.5
    assert config["modules_to_save"] == [
        "blocks.0.norm2.shape",
        "blocks.0.norm2.6drotation_normalized",
        "latent_mapping.shape.out_layer",
        "latent_mapping.6drotation_normalized.out_layer",
        "latent_mapping.scale.out_layer",
        "latent_mapping.translation_scale.out_layer",
    ]
    tensors = load_file(tmp_path / "a/adapter_model.safetensors")
    assert tensors["base_model.model.blocks.0.self_attn.to_qkv.shape.lora_A.weight"].shape == (3, 16)
    assert tensors["base_model.model.blocks.0.self_attn.to_qkv.shape.lora_B.weight"].shape == (48, 3)


def test_peft_computes_the_same(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft", reason="PEFT is not installed (pip install peft)")
    model = saved_flow(tmp_path / "flow").eval()
    torch.manual_seed(0)
    theirs = peft.PeftModel.from_pretrained(TwoStreamFlow(blocks=2), tmp_path / "flow").eval()
    ours, other = model(flow_inputs()), theirs(flow_inputs())
    for name in ours:
        assert (ours[name] - other[name]).abs().max() <= 1e-5 * ours[name].abs().max()


def test_peft_computes_the_same_for_another_backbone(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft", reason="PEFT is not installed (pip install peft)")
    torch.manual_seed(0)
    model: nn.Module = VisionTransformer()
    inject_lora(model, ["*.qkv", "*.proj"], rank=2)
    unfreeze(model, ["head", "norm"])
    randomise_adapters(model)
    model(torch.randn(9, 12))
    save_adapter(tmp_path / "vit", model, LoRAConfig(rank=2), META)
    torch.manual_seed(0)
    theirs = peft.PeftModel.from_pretrained(VisionTransformer(), tmp_path / "vit").eval()
    x = torch.randn(5, 12)
    assert torch.allclose(model.eval()(x), theirs(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("options", [{"dora": True}, {"rslora": True}])
def test_peft_computes_the_same_with_dora_and_rslora(tmp_path: Path, options: dict[str, bool]) -> None:
    peft = pytest.importorskip("peft", reason="PEFT is not installed (pip install peft)")
    torch.manual_seed(0)
    model: nn.Module = VisionTransformer().eval()
    inject_lora(model, ["*.qkv", "*.proj"], rank=3, patterns={"*.qkv": options, "*.proj": options})
    randomise_adapters(model)
    save_adapter(tmp_path / "vit", model, LoRAConfig(rank=3), META)
    torch.manual_seed(0)
    theirs = peft.PeftModel.from_pretrained(VisionTransformer(), tmp_path / "vit").eval()
    x = torch.randn(5, 12)
    assert torch.allclose(model(x), theirs(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("options", [{"parts": "q_v"}, {"init": "pissa"}])
def test_peft_refuses_what_it_would_load_wrongly(tmp_path: Path, options: dict[str, str]) -> None:
    peft = pytest.importorskip("peft", reason="PEFT is not installed (pip install peft)")
    model = VisionTransformer()
    inject_lora(model, patterns={"*.qkv": options})
    save_adapter(tmp_path / "vit", model, LoRAConfig(), META)
    assert "PEFT refuses this folder" in (tmp_path / "vit/README.md").read_text()
    with pytest.raises((KeyError, ValueError), match="SAM3D_LORA"):
        peft.PeftModel.from_pretrained(VisionTransformer(), tmp_path / "vit")
