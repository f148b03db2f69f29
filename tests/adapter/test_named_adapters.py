"""Several adapter folders in one model, and options of every kind on disk."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from sam3d_objects.adapter import AdapterMeta, InferenceContract, load_adapter, read_adapter, save_adapter
from sam3d_objects.model.lora import (
    LoRAConfig,
    adapter_names,
    inject_lora,
    lora_layers,
    setup_from_config,
    tensor_digests,
    unfreeze,
    use_adapter,
)
from tests.model.lora.standins import VisionTransformer, randomise_adapters

META = AdapterMeta(
    stage="structure",
    base_name="vit",
    base_fingerprint="f",
    organs=("liver",),
    contract=InferenceContract(field_of_view="scan", modality="ct"),
)
X = torch.randn(5, 12, generator=torch.Generator().manual_seed(8))


def base() -> VisionTransformer:
    torch.manual_seed(0)
    return VisionTransformer().eval()


def out(model: nn.Module) -> Tensor:
    with torch.no_grad():
        result: Tensor = model(X)
    return result


def test_two_folders_in_one_model_with_a_head_each(tmp_path: Path) -> None:
    alone = {}
    for name, targets, seed in (("liver", "*.qkv", 1), ("spleen", "*.proj", 2)):
        model = base()
        inject_lora(model, targets, rank=seed)
        unfreeze(model, "head")
        randomise_adapters(model, seed)
        save_adapter(tmp_path / name, model, LoRAConfig(rank=seed, trained_modules=("head",)), META)
        alone[name] = out(model)
    model = base()
    for name in alone:
        load_adapter(tmp_path / name, model, base_fingerprint="f", adapter=name)
        assert torch.equal(out(model), alone[name])
    before = tensor_digests(model)
    with pytest.raises(ValueError, match=r"has adapters already.*under another name than 'liver'"):
        load_adapter(tmp_path / "spleen", model, base_fingerprint="f", adapter="liver")
    assert tensor_digests(model) == before and adapter_names(model) == ["liver", "spleen"]
    use_adapter(model, "liver")
    assert torch.equal(out(model), alone["liver"])
    save_adapter(tmp_path / "again", model, LoRAConfig(), META, adapter="spleen")
    fresh = base()
    load_adapter(tmp_path / "again", fresh, base_fingerprint="f")
    assert torch.equal(out(fresh), alone["spleen"]) and adapter_names(fresh) == ["default"]
    use_adapter(model, {})
    assert torch.equal(out(model), out(base()))


def test_every_option_comes_back_from_disk(tmp_path: Path) -> None:
    options = {"rank": 2, "parts": "q_v", "init": "pissa", "dora": True, "rslora": True, "alpha": 3.0}
    config = LoRAConfig(rank=1, init="gaussian", target_modules=("*.proj",), patterns={"*.qkv": options})
    model = base()
    setup_from_config(model, config, seed=0)
    randomise_adapters(model)
    save_adapter(tmp_path / "a", model, config, META)
    record = read_adapter(tmp_path / "a")
    assert record.config == config and record.layers["blocks.0.attn.qkv"] == config.defaults.changed("", options)
    fresh = base()
    load_adapter(tmp_path / "a", fresh, base_fingerprint="f")
    assert torch.equal(out(fresh), out(model))
    assert {path: layer.options for path, layer in lora_layers(fresh).items()} == {
        path: layer.options for path, layer in lora_layers(model).items()
    }
