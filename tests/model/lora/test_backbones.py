"""What must hold, on networks of other people and on ours: fresh, two steps, saved and loaded, merged, taken out."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from sam3d_objects.adapter import AdapterMeta, InferenceContract, load_adapter, save_adapter
from sam3d_objects.model.lora import (
    DEFAULT_OUTPUT_LAYERS,
    DEFAULT_TARGETS,
    MLP_TARGETS,
    LoRAConfig,
    adapter_names,
    delete_adapter,
    merge_lora_weights,
    merged_model,
    movement,
    setup_from_config,
    tensor_digests,
    trainable_names,
    unmerge_lora_weights,
    use_adapter,
    verify,
)
from sam3d_objects.model.lora.targets import path_test
from sam3d_objects.model.sparse import SparseGrid, SparseTensor
from sam3d_objects.model.structure.flow import StructureFlow
from sam3d_objects.model.structure.latent import Latent
from tests.training.small_model import WIDTH, small_latent_stage, small_model

META = AdapterMeta(
    stage="structure",
    base_name="random",
    base_fingerprint="f",
    organs=("liver",),
    contract=InferenceContract(field_of_view="scan", modality="ct"),
)


@dataclass(frozen=True)
class Backbone:
    """A network, an output of it, and how it is adapted."""

    build: Callable[[], nn.Module]
    run: Callable[[nn.Module], Tensor]
    config: LoRAConfig


def _random(model: nn.Module) -> nn.Module:
    """Weights of ordinary size where a network starts with zeros, so that gradients reach everything."""
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(std=0.05)
    return model.eval()


def _images() -> Tensor:
    return torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(3))


def _transformers() -> Any:
    return pytest.importorskip("transformers", reason="transformers is not installed (pip install transformers)")


def _dinov2() -> nn.Module:
    t = _transformers()
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
    return t.Dinov2WithRegistersModel(t.Dinov2WithRegistersConfig(**sizes))


def _vit_mae() -> nn.Module:
    t = _transformers()
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
    decoder = {"decoder_hidden_size": 16, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 2}
    config = t.ViTMAEConfig(**sizes, **decoder, intermediate_size=32, decoder_intermediate_size=32)
    return t.ViTMAEForPreTraining(config)


def _clip() -> nn.Module:
    t = _transformers()
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {**sizes, "vocab_size": 30, "max_position_embeddings": 8, "eos_token_id": 2, "bos_token_id": 1}
    vision = {**sizes, "image_size": 32, "patch_size": 8}
    return t.CLIPModel(t.CLIPConfig(text_config=text, vision_config=vision, projection_dim=12))


def _eomt() -> nn.Module:
    t = _transformers()
    sizes = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
    config = t.EomtConfig(**sizes, num_blocks=1, num_queries=5, num_register_tokens=1, num_upscale_blocks=1)
    return t.EomtForUniversalSegmentation(config)


def _run_eomt(model: nn.Module) -> Tensor:
    out = model(pixel_values=_images())
    return torch.cat([out.masks_queries_logits.flatten(), out.class_queries_logits.flatten()])


def _run_mae(model: nn.Module) -> Tensor:
    noise = torch.rand(1, 16, generator=torch.Generator().manual_seed(4))
    logits: Tensor = model(_images(), noise=noise).logits
    return logits


def _run_clip(model: nn.Module) -> Tensor:
    tokens = torch.tensor([[1, 5, 9, 2, 0, 0]])
    out = model(input_ids=tokens, pixel_values=_images())
    return torch.cat([out.text_embeds, out.image_embeds])


def _voxels(channels: int) -> SparseTensor:
    generator = torch.Generator().manual_seed(5)
    cells = torch.stack(torch.meshgrid(*[torch.arange(4)] * 3, indexing="ij"), -1).view(-1, 3)[::3]
    coordinates = torch.cat([torch.zeros(len(cells), 1), cells], dim=1).int()
    return SparseTensor(torch.randn(len(cells), channels, generator=generator), SparseGrid(coordinates, batch=1))


def _run_structure(model: nn.Module) -> Tensor:
    generator = torch.Generator().manual_seed(6)
    flow = cast(StructureFlow, model)
    x = {
        name: torch.randn(2, len(cast(Latent, flow.latent_mapping[name]).pos_emb), width, generator=generator)
        for name, width in flow.latent_widths.items()
    }
    t, d = 1000 * torch.rand(2, 2, generator=generator)
    out = flow(x, t, torch.randn(2, 7, WIDTH, generator=generator), d)
    return torch.cat([out[name].flatten() for name in out if name != "translation_scale"])


def _run_latent(model: nn.Module) -> Tensor:
    condition = torch.randn(1, 7, WIDTH, generator=torch.Generator().manual_seed(7))
    out: Tensor = model(_voxels(8), torch.tensor([300.0]), condition)
    return out


def _run_decoder(model: nn.Module) -> Tensor:
    out: SparseTensor = model(_voxels(8))
    return out.features


PISSA_AND_DORA: dict[str, dict[str, Any]] = {"*.mlp.fc1": {"init": "pissa"}, "*.mlp.fc2": {"dora": True}}
BACKBONES = {
    "eomt": Backbone(
        _eomt,
        _run_eomt,
        LoRAConfig(
            rank=2,
            target_modules=("layers.*.attention.*_proj", "layers.*.mlp.fc?", "query", "upscale_block.block.0.conv2"),
            trained_modules=("mask_head", "class_predictor", "re:layers.*norm\\d"),
        ),
    ),
    "dinov2": Backbone(
        _dinov2,
        lambda model: cast(Tensor, model(_images()).last_hidden_state),
        LoRAConfig(
            rank=2,
            rslora=True,
            target_modules=("*.attention.*_proj", "embeddings.patch_embeddings.projection"),
            patterns=PISSA_AND_DORA,
        ),
    ),
    "vit_mae": Backbone(
        _vit_mae, _run_mae, LoRAConfig(rank=2, target_modules=("vit.*.q_proj", "vit.*.k_proj", "vit.*.v_proj"))
    ),
    "clip": Backbone(
        _clip,
        _run_clip,
        LoRAConfig(
            rank=2,
            init="gaussian",
            target_modules=("*.self_attn.*_proj", "*.token_embedding", "vision_model.embeddings.patch_embedding"),
            trained_modules=("visual_projection",),
        ),
    ),
    "structure flow": Backbone(
        lambda: small_model().structure_flow,
        _run_structure,
        LoRAConfig(
            rank=2,
            target_modules=(*DEFAULT_TARGETS, *MLP_TARGETS),
            trained_modules=DEFAULT_OUTPUT_LAYERS[:1],
            patterns={"*.self_attn.to_qkv.*": {"parts": "qkv"}, "*.to_kv": {"parts": "_v", "dropout": 0.2}},
        ),
    ),
    "latent flow": Backbone(
        lambda: small_latent_stage().flow,
        _run_latent,
        LoRAConfig(rank=2, target_modules=(*DEFAULT_TARGETS, *MLP_TARGETS, "*.conv1", "*.conv2")),
    ),
    "mesh decoder": Backbone(
        lambda: small_latent_stage().mesh_decoder,
        _run_decoder,
        LoRAConfig(
            rank=2,
            target_modules=("*.to_qkv", "upsample.*.skip_connection", "upsample.*.out_layers.*"),
            trained_modules=("out_layer",),
        ),
    ),
}


def _build(name: str) -> nn.Module:
    torch.manual_seed(0)
    return _random(BACKBONES[name].build())


@pytest.mark.parametrize("name", BACKBONES)
def test_on_the_backbone(name: str, tmp_path: Path) -> None:
    backbone, model = BACKBONES[name], _build(name)
    run = backbone.run
    untouched = tensor_digests(_build(name))
    expected = run(model).detach()
    counts = setup_from_config(model, backbone.config, seed=1)
    rounds = any("pissa" in options.values() for options in backbone.config.patterns.values())
    torch.testing.assert_close(run(model), expected, rtol=1e-5 if rounds else 0, atol=1e-6 if rounds else 0)

    before, listed = tensor_digests(model), set(trainable_names(model))
    assert all(".lora_" in f".{name}" or _is_trained(name, backbone.config) for name in listed) and counts["lora"]
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.01)
    for _ in range(2):
        optimizer.zero_grad()
        (run(model) - 1).square().mean().backward()
        optimizer.step()
    movement(before, model).require()
    verify(model, verbose=False).require()
    adapted = run(model).detach()
    assert (adapted - expected).abs().max() > 1e-3

    save_adapter(tmp_path / "adapter", model, backbone.config, META)
    fresh = _build(name)
    load_adapter(tmp_path / "adapter", fresh, base_fingerprint="f")
    assert torch.equal(run(fresh), adapted) and set(trainable_names(fresh)) == listed

    scale = adapted.abs().max()
    assert (run(merged_model(model)) - adapted).abs().max() <= 1e-5 * scale
    merge_lora_weights(fresh, keep=True)
    assert (run(fresh) - adapted).abs().max() <= 1e-5 * scale
    unmerge_lora_weights(fresh)
    assert torch.equal(run(fresh), adapted)
    use_adapter(fresh, {})
    for adapter in adapter_names(fresh):
        delete_adapter(fresh, adapter)
    assert tensor_digests(fresh) == untouched, "the base again, bit for bit"


def _is_trained(name: str, config: LoRAConfig) -> bool:
    tests = [path_test(pattern) for pattern in config.trained_modules]
    parts = name.split(".")
    return any(test(".".join(parts[:count])) for test in tests for count in range(1, len(parts) + 1))
