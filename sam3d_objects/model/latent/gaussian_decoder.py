"""The Gaussian decoder's network. A mesh needs none of it; it is here so that every released file can be loaded."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sam3d_objects.model.latent.encoder import OUT_EPS
from sam3d_objects.model.latent.transformer import SparseTransformer, plain_norm
from sam3d_objects.model.sparse import SparseTensor

# Position 3, colour 3, scale 3, rotation 4, opacity 1.
CHANNELS_PER_GAUSSIAN = 14


class GaussianDecoder(SparseTransformer):
    """Latents -> the raw numbers of each voxel's Gaussians (Kerbl et al. 2023, arXiv 2308.04079); drawing is not ours.

    `use_fp16` belongs to released configs and changes nothing here.
    """

    offset_perturbation: Tensor

    def __init__(
        self,
        resolution: int,
        model_channels: int,
        latent_channels: int,
        num_blocks: int,
        num_heads: int,
        mlp_ratio: float = 4,
        attn_mode: str = "swin",
        window_size: int = 8,
        representation_config: Mapping[str, Any] | None = None,
        use_fp16: bool = False,
    ) -> None:
        super().__init__(
            resolution, latent_channels, model_channels, num_blocks, num_heads, mlp_ratio, attn_mode, window_size
        )
        count = int((representation_config or {})["num_gaussians"])
        self.out_layer = nn.Linear(model_channels, count * CHANNELS_PER_GAUSSIAN)
        self.register_buffer("offset_perturbation", torch.zeros(count, 3))

    def forward(self, x: SparseTensor) -> Tensor:
        """Map latents (N, 8) to (N, 14 x Gaussians of a voxel)."""
        return self.out_layer(plain_norm(self.transform(x).features, OUT_EPS))
