"""A folder with the release's file names, prefixes, key names and dtypes, at a width that fits a test."""

from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from sam3d_objects.model.instantiate import instantiate
from sam3d_objects.model.weights import EMBEDDER_PREFIX, GENERATOR_PREFIX

WIDTH = 16
_BACKBONE = "sam3d_objects.model.backbone"
_DIT = f"{_BACKBONE}.tdfy_dit.models"
_LATENT = f"{_DIT}.mm_latent"

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


def _latent(width: int) -> dict[str, Any]:
    position: dict[str, Any] = {"_target_": f"{_LATENT}.LearntPositionEmbedder", "model_channels": WIDTH}
    if width == 8:
        position = {**position, "_target_": f"{_LATENT}.ShapePositionEmbedder", "resolution": 16, "patch_size": 1}
    else:
        position["token_len"] = 1
    return {
        "_target_": f"{_LATENT}.Latent",
        "in_channels": width,
        "model_channels": WIDTH,
        "pos_embedder": position,
    }


def generator_config() -> dict[str, Any]:
    """The release's `ss_generator.yaml` with one block of width 16."""
    vit = {"img_size": 28, "patch_size": 14, "embed_dim": WIDTH, "depth": 1, "num_heads": 2}
    dino = {"_target_": f"{_BACKBONE}.dit.embedder.dino.Dino", "input_size": 28, "vit": vit}
    points = {
        "_target_": f"{_BACKBONE}.dit.embedder.pointmap.PointPatchEmbed",
        "embed_dim": WIDTH,
        "input_size": 16,
        "num_heads": 2,
    }
    embedder = {
        "_target_": f"{_BACKBONE}.dit.embedder.embedder_fuser.EmbedderFuser",
        "drop_modalities_weight": [[["pointmap", "rgb_pointmap"], 1.0]],
        "dropout_prob": 0.1,
        "embedder_list": [
            [dino, [["image", "cropped"], ["rgb_image", "full"]]],
            [dino, [["mask", "cropped"], ["rgb_image_mask", "full"]]],
            [points, [["pointmap", "cropped"], ["rgb_pointmap", "full"]]],
        ],
        "projection_net_hidden_dim_multiplier": 1.0,
        "freeze": True,
    }
    pose = ["6drotation_normalized", "translation", "scale", "translation_scale"]
    flow = {
        "_target_": f"{_DIT}.mot_sparse_structure_flow.SparseStructureFlowTdfyWrapper",
        "latent_mapping": {n: _latent(w) for n, w in zip(["shape", *pose], [8, 6, 3, 3, 1], strict=True)},
        "latent_share_transformer": {pose[0]: pose},
        "model_channels": WIDTH,
        "cond_channels": WIDTH,
        "num_blocks": 1,
        "num_heads": 2,
        "is_shortcut_model": True,
        "freeze_d_time_embedder": True,
    }
    guidance = f"{_BACKBONE}.generator.classifier_free_guidance"
    shortcut = {
        "_target_": f"{_BACKBONE}.generator.shortcut.model.ShortCut",
        "reverse_fn": {
            "_target_": f"{guidance}.ClassifierFreeGuidanceWithExternalUnconditionalProbability",
            "backbone": flow,
            "interval": [0, 500],
        },
        "training_time_sampler_fn": {
            "_partial_": True,
            "_target_": f"{_BACKBONE}.generator.flow_matching.model.lognorm_sampler",
            "mean": -1.0,
            "std": 1.0,
        },
    }
    return {"module": {"condition_embedder": {"backbone": embedder}, "generator": {"backbone": shortcut}}}


def released_state(node: dict[str, Any], prefix: str = "") -> dict[str, Tensor]:
    """Random weights of a config's module under a prefix."""
    return {prefix + name: value for name, value in instantiate(node).state_dict().items()}


def write_release(folder: Path) -> None:
    """Write the files that the structure half reads; `slat_*` are only named, as nobody may need them."""
    torch.manual_seed(0)
    pipeline = {
        "_target_": "sam3d_objects.pipeline.inference_pipeline_pointmap.InferencePipelinePointMap",
        "ss_generator_config_path": "ss_generator.yaml",
        "ss_generator_ckpt_path": "ss_generator.ckpt",
        "slat_generator_config_path": "slat_generator.yaml",
        "slat_generator_ckpt_path": "slat_generator.ckpt",
        "ss_decoder_config_path": "ss_decoder.yaml",
        "ss_decoder_ckpt_path": "ss_decoder.ckpt",
        "version": "3dfy_v9",
    }
    config = generator_config()
    for name, content in {"pipeline": pipeline, "ss_generator": config, "ss_decoder": DECODER}.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    module = config["module"]
    state = released_state(module["generator"]["backbone"], GENERATOR_PREFIX)
    state |= released_state(module["condition_embedder"]["backbone"], EMBEDDER_PREFIX)
    state["_base_models.other.weight"] = torch.zeros(3)
    torch.save({"state_dict": state}, folder / "ss_generator.ckpt")
    # The released VAE has its blocks in half precision and its first and last layers in single.
    for name, node in (("ss_decoder", DECODER), ("ss_encoder", ENCODER)):
        mixed = {key: value.half() if "block" in key else value for key, value in released_state(node).items()}
        torch.save(mixed, folder / f"{name}.ckpt")
