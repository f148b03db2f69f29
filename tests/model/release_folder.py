"""A folder with the release's file names, prefixes, key names and dtypes, at a width that fits a test."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from sam3d_objects.model.instantiate import instantiate
from sam3d_objects.model.weights import EMBEDDER_PREFIX, GENERATOR_PREFIX

WIDTH = 16
FLOW = f"{GENERATOR_PREFIX}reverse_fn.backbone."
POSE = ("6drotation_normalized", "translation", "scale", "translation_scale")
_BACKBONE = "sam3d_objects.model.backbone"
_DIT = f"{_BACKBONE}.tdfy_dit.models"
_LATENT = f"{_DIT}.mm_latent"
_GUIDANCE = f"{_BACKBONE}.generator.classifier_free_guidance"
_VAE = f"{_DIT}.structured_latent_vae"
_TIMES = {
    "_partial_": True,
    "_target_": f"{_BACKBONE}.generator.flow_matching.model.lognorm_sampler",
    "mean": -1.0,
    "std": 1.0,
}
_TRANSFORMER = {
    "resolution": 64,
    "latent_channels": 8,
    "num_blocks": 1,
    "num_heads": 2,
    "mlp_ratio": 4,
    "attn_mode": "swin",
    "window_size": 8,
    "use_fp16": True,
}

ENCODER = {
    "_target_": f"{_DIT}.sparse_structure_vae.SparseStructureEncoderTdfyWrapper",
    "in_channels": 1,
    "latent_channels": 8,
    "num_res_blocks": 1,
    "num_res_blocks_middle": 1,
    "channels": [4, 4, 8],
}
DECODER = {
    "_target_": f"{_DIT}.sparse_structure_vae.SparseStructureDecoderTdfyWrapper",
    "out_channels": 1,
    "latent_channels": 8,
    "num_res_blocks": 1,
    "num_res_blocks_middle": 1,
    "channels": [8, 4, 4],
    "reshape_input_to_cube": False,
}
LATENT_ENCODER = {
    "_target_": f"{_VAE}.encoder.SLatEncoderTdfyWrapper",
    "in_channels": 8,
    "model_channels": WIDTH,
    **_TRANSFORMER,
}


def mesh_decoder_config(width: int = WIDTH) -> dict[str, Any]:
    """The release's `slat_decoder_mesh.yaml` with one block, and groups that divide its widths."""
    return {
        "_target_": f"{_VAE}.decoder_mesh.SLatMeshDecoderTdfyWrapper",
        "model_channels": width,
        "norm_groups": 2,
        "representation_config": {"use_color": True},
        **_TRANSFORMER,
    }


def _latent(channels: int, width: int) -> dict[str, Any]:
    position: dict[str, Any] = {"_target_": f"{_LATENT}.LearntPositionEmbedder", "model_channels": width}
    if channels == 8:
        position = {**position, "_target_": f"{_LATENT}.ShapePositionEmbedder", "resolution": 16, "patch_size": 1}
    else:
        position["token_len"] = 1
    return {
        "_target_": f"{_LATENT}.Latent",
        "in_channels": channels,
        "model_channels": width,
        "pos_embedder": position,
    }


def _embedder(width: int, pointmap: bool) -> dict[str, Any]:
    vit = {"img_size": 28, "patch_size": 14, "embed_dim": width, "depth": 1, "num_heads": 2}
    dino: dict[str, Any] = {"_target_": f"{_BACKBONE}.dit.embedder.dino.Dino", "input_size": 28, "vit": vit}
    images = [["image", "cropped"], ["rgb_image", "full"]]
    masks = [["mask", "cropped"], ["rgb_image_mask", "full"]]
    fuser = f"{_BACKBONE}.dit.embedder.embedder_fuser.EmbedderFuser"
    common = {"_target_": fuser, "projection_net_hidden_dim_multiplier": 1.0}
    if not pointmap:
        dino["prenorm_features"] = True
        return {**common, "embedder_list": [[dino, images], [dino, masks]]}
    points = {
        "_target_": f"{_BACKBONE}.dit.embedder.pointmap.PointPatchEmbed",
        "embed_dim": width,
        "input_size": 16,
        "num_heads": 2,
    }
    return {
        **common,
        "embedder_list": [[dino, images], [dino, masks], [points, [["pointmap", "cropped"], ["rgb_pointmap", "full"]]]],
        "drop_modalities_weight": [[["pointmap", "rgb_pointmap"], 1.0]],
        "dropout_prob": 0.1,
        "freeze": True,
    }


def generator_config(width: int = WIDTH) -> dict[str, Any]:
    """The release's `ss_generator.yaml` with one block."""
    flow = {
        "_target_": f"{_DIT}.mot_sparse_structure_flow.SparseStructureFlowTdfyWrapper",
        "latent_mapping": {n: _latent(c, width) for n, c in zip(["shape", *POSE], [8, 6, 3, 3, 1], strict=True)},
        "latent_share_transformer": {POSE[0]: list(POSE)},
        "model_channels": width,
        "cond_channels": width,
        "num_blocks": 1,
        "num_heads": 2,
        "is_shortcut_model": True,
        "freeze_d_time_embedder": True,
    }
    shortcut = {
        "_target_": f"{_BACKBONE}.generator.shortcut.model.ShortCut",
        "reverse_fn": {
            "_target_": f"{_GUIDANCE}.ClassifierFreeGuidanceWithExternalUnconditionalProbability",
            "backbone": flow,
            "interval": [0, 500],
        },
        "training_time_sampler_fn": _TIMES,
    }
    embedder = _embedder(width, pointmap=True)
    return {"module": {"condition_embedder": {"backbone": embedder}, "generator": {"backbone": shortcut}}}


def latent_generator_config(width: int = WIDTH) -> dict[str, Any]:
    """The release's `slat_generator.yaml` with one block."""
    flow = {
        "_target_": f"{_DIT}.structured_latent_flow.SLatFlowModelTdfyWrapper",
        "resolution": 64,
        "in_channels": 8,
        "out_channels": 8,
        "model_channels": width,
        "cond_channels": width,
        "condition_embedder": None,
        "force_zeros_cond": True,
        "io_block_channels": [8],
        "num_blocks": 1,
        "num_heads": 2,
        "num_io_res_blocks": 2,
        "patch_size": 2,
        "pe_mode": "ape",
        "qk_rms_norm": True,
        "use_fp16": True,
    }
    matching = {
        "_target_": f"{_BACKBONE}.generator.flow_matching.model.FlowMatching",
        "inference_steps": 12,
        "reverse_fn": {
            "_target_": f"{_GUIDANCE}.ClassifierFreeGuidance",
            "backbone": flow,
            "p_unconditional": 0.0,
            "strength": 0.0,
            "unconditional_handling": "add_flag",
        },
        "sigma_min": 0.0,
        "time_scale": 1000.0,
        "training_time_sampler_fn": _TIMES,
    }
    embedder = _embedder(width, pointmap=False)
    return {"module": {"condition_embedder": {"backbone": embedder}, "generator": {"backbone": matching}}}


def released_state(node: dict[str, Any], prefix: str = "") -> dict[str, Tensor]:
    """Random weights of a config's module under a prefix."""
    return {prefix + name: value for name, value in instantiate(node).state_dict().items()}


def write_release(folder: Path, width: int = WIDTH) -> None:
    """Write what a whole, recent download has, but for the Gaussian decoders, which nothing here reads."""
    torch.manual_seed(0)
    parts = ("ss_generator", "slat_generator", "ss_decoder", "slat_decoder_mesh")
    pipeline: dict[str, Any] = {
        "_target_": "sam3d_objects.pipeline.inference_pipeline_pointmap.InferencePipelinePointMap",
        **{f"{part}_config_path": f"{part}.yaml" for part in parts},
        **{f"{part}_ckpt_path": f"{part}.ckpt" for part in parts},
        "dtype": "float16",
        "version": "3dfy_v9",
        "slat_cfg_strength": 1,
        "slat_rescale_t": 1,
        "slat_mean": [0.5] * 8,
        "slat_std": [2.0] * 8,
    }
    generators = {"ss_generator": generator_config(width), "slat_generator": latent_generator_config(width)}
    single = {
        "ss_decoder": DECODER,
        "ss_encoder": ENCODER,
        "slat_decoder_mesh": mesh_decoder_config(width),
        "slat_encoder": LATENT_ENCODER,
    }
    for name, content in {"pipeline": pipeline, **generators, **single}.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    for name, config in generators.items():
        module = config["module"]
        state = released_state(module["generator"]["backbone"], GENERATOR_PREFIX)
        state |= released_state(module["condition_embedder"]["backbone"], EMBEDDER_PREFIX)
        state["_base_models.other.weight"] = torch.zeros(3)
        torch.save({"state_dict": state}, folder / f"{name}.ckpt")
    for name, node in single.items():
        # The released VAEs have their blocks in half precision; the mesh decoder is kept in single throughout.
        halved = "block" if name != "slat_decoder_mesh" else "no such layer"
        mixed = {key: value.half() if halved in key else value for key, value in released_state(node).items()}
        torch.save(mixed, folder / f"{name}.ckpt")


def edit_state(path: Path, edit: Callable[[dict[str, Tensor]], object]) -> None:
    """Change a weight file's tensors."""
    content = torch.load(path, weights_only=True)
    edit(content.get("state_dict", content))
    torch.save(content, path)


def edit_config(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Change a config file."""
    content = yaml.safe_load(path.read_text())
    edit(content)
    path.write_text(yaml.safe_dump(content))
