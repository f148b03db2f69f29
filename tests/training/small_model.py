"""Both halves with numbers so small that a step takes milliseconds. Their weights are random."""

from typing import Literal

import torch

from sam3d_objects.model import SAM3DObjects
from sam3d_objects.model.condition.dino import Dino
from sam3d_objects.model.condition.fuser import EmbedderFuser
from sam3d_objects.model.condition.pointmap import PointPatchEmbed
from sam3d_objects.model.latent.encoder import LatentEncoder
from sam3d_objects.model.latent.features import FEATURES
from sam3d_objects.model.latent.flow import LatentFlow
from sam3d_objects.model.latent.mesh_decoder import MeshDecoder
from sam3d_objects.model.latent.settings import LatentSettings
from sam3d_objects.model.latent.stage import LatentStage
from sam3d_objects.model.structure.flow import StructureFlow
from sam3d_objects.model.structure.latent import Latent, LearntPositionEmbedder, ShapePositionEmbedder
from sam3d_objects.model.structure.settings import StructureSettings
from sam3d_objects.model.structure.vae import StructureDecoder, StructureEncoder

WIDTH, LATENT_WIDTH = 16, 32
SIDE = 16
POSE = {"6drotation_normalized": 6, "translation": 3, "scale": 3, "translation_scale": 1}


def small_model(occupancy: Literal["solid", "surface"] = "solid", seed: int = 0) -> SAM3DObjects:
    """A model with a 16^3 grid, 4^3 x 8 latents in 8 tokens of 64 channels, and two blocks of width 16."""
    torch.manual_seed(seed)
    vit = {"img_size": 28, "patch_size": 14, "embed_dim": WIDTH, "depth": 1, "num_heads": 2}
    embedder = EmbedderFuser(
        [
            (Dino(28, vit=vit), [("image", "cropped"), ("rgb_image", "full")]),
            (Dino(28, vit=vit), [("mask", "cropped"), ("rgb_image_mask", "full")]),
            (PointPatchEmbed(16, 8, WIDTH, num_heads=2), [("pointmap", "cropped"), ("rgb_pointmap", "full")]),
        ],
        projection_net_hidden_dim_multiplier=1.0,
    )
    latents = {"shape": Latent(64, WIDTH, ShapePositionEmbedder(WIDTH, 2))}
    latents |= {name: Latent(width, WIDTH, LearntPositionEmbedder(WIDTH, 1)) for name, width in POSE.items()}
    flow = StructureFlow(
        latents,
        {"6drotation_normalized": list(POSE)},
        WIDTH,
        WIDTH,
        num_blocks=2,
        num_heads=2,
        is_shortcut_model=True,
    )
    encoder = StructureEncoder(1, 8, 1, [4, 8, 8], num_res_blocks_middle=1)
    decoder = StructureDecoder(1, 8, 1, [8, 8, 4], num_res_blocks_middle=1)
    settings = StructureSettings(16, 4, 8, 2, occupancy, 28)
    return SAM3DObjects(embedder, flow, encoder, decoder, settings, "small", "0" * 64).eval()


def small_latent_stage() -> LatentStage:
    """A latent stage on the 16^3 grid with one block in each network."""
    torch.manual_seed(1)
    vit = {"img_size": 28, "patch_size": 14, "embed_dim": WIDTH, "depth": 1, "num_heads": 2}
    embedder = EmbedderFuser(
        [
            (Dino(28, prenorm_features=True, vit=vit), [("image", "cropped"), ("rgb_image", "full")]),
            (Dino(28, prenorm_features=True, vit=vit), [("mask", "cropped"), ("rgb_image_mask", "full")]),
        ],
        projection_net_hidden_dim_multiplier=1.0,
    )
    flow = LatentFlow(SIDE, 8, WIDTH, WIDTH, 8, num_blocks=1, num_heads=2, io_block_channels=[8])
    decoder = MeshDecoder(
        SIDE, LATENT_WIDTH, 8, 1, 2, representation_config={"use_color": True}, norm_groups=4, window_size=4
    )
    encoder = LatentEncoder(SIDE, FEATURES, WIDTH, 8, 1, 2, window_size=4)
    settings = LatentSettings(voxel_features="signed_distance")
    return LatentStage(embedder, flow, decoder, encoder, settings, "1" * 64).eval()


def whole_model(occupancy: Literal["solid", "surface"] = "solid", latent_side: int = SIDE) -> SAM3DObjects:
    """Both halves; on a smaller latent grid, 8 or 4, there are few fine cubes, and steps of its stages are quick."""
    model, latent = small_model(occupancy), small_latent_stage()
    if latent_side != SIDE:
        torch.manual_seed(2)
        latent.encoder = LatentEncoder(latent_side, FEATURES, WIDTH, 8, 1, 2, window_size=4)
        latent.mesh_decoder = MeshDecoder(
            latent_side, LATENT_WIDTH, 8, 1, 2, representation_config={"use_color": True}, norm_groups=4, window_size=4
        )
    model.latent = latent.eval()
    return model
