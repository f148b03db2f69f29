"""The transformer over surface voxels that the latent encoder and both decoders share.

Letters: N voxels of a batch, C channels, H heads, D head width.
Structured latents: Xiang et al. 2024, arXiv 2412.01506.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from sam3d_objects.model.attention import FeedForward, MultiHeadRMSNorm
from sam3d_objects.model.embeddings import absolute_position_embedding
from sam3d_objects.model.sparse import SparseGrid, SparseTensor, attend_windows, attend_within

BLOCK_EPS = 1e-6


def plain_norm(x: Tensor, eps: float) -> Tensor:
    """Layer norm over the channels without scale and offset."""
    return nn.functional.layer_norm(x, x.shape[-1:], eps=eps)


class SparseSelfAttention(nn.Module):
    """Self-attention of voxels: within windows of a side, or (`window` None) with all voxels of their sample."""

    def __init__(
        self, channels: int, heads: int, window: int | None, shift: int = 0, qk_rms_norm: bool = False
    ) -> None:
        super().__init__()
        self.heads, self.window, self.shift = heads, window, shift
        self.to_qkv = nn.Linear(channels, 3 * channels)
        self.to_out = nn.Linear(channels, channels)
        width = channels // heads
        self.q_rms_norm = MultiHeadRMSNorm(heads, width) if qk_rms_norm else nn.Identity()
        self.k_rms_norm = MultiHeadRMSNorm(heads, width) if qk_rms_norm else nn.Identity()

    def forward(self, x: Tensor, grid: SparseGrid) -> Tensor:
        """Map voxels (N, C) to (N, C)."""
        q, k, v = self.to_qkv(x).unflatten(-1, (3, self.heads, -1)).unbind(1)  # each (N, H, D)
        q, k = self.q_rms_norm(q), self.k_rms_norm(k)
        if self.window is None:
            return self.to_out(attend_within(q, k, v, grid))
        return self.to_out(attend_windows(q, k, v, grid, self.window, self.shift))


class TransformerBlock(nn.Module):
    """Attention and MLP, each behind a layer norm without parameters."""

    def __init__(self, channels: int, heads: int, mlp_ratio: float, window: int | None, shift: int) -> None:
        super().__init__()
        self.attn = SparseSelfAttention(channels, heads, window, shift)
        self.mlp = FeedForward(channels, mlp_ratio)

    def forward(self, x: Tensor, grid: SparseGrid) -> Tensor:
        """Map voxels (N, C) to (N, C)."""
        x = x + self.attn(plain_norm(x, BLOCK_EPS), grid)
        return x + self.mlp(plain_norm(x, BLOCK_EPS))


class SparseTransformer(nn.Module, ABC):
    """Linear in, absolute position embedding, blocks; what comes out is the subclass's.

    Args:
        resolution: side of the grid that the voxels are in.
        in_channels, model_channels: of the input and of the blocks.
        attn_mode: 'swin' (windows of `window_size`, shifted by half of it in odd blocks) or 'full'.
    """

    def __init__(
        self,
        resolution: int,
        in_channels: int,
        model_channels: int,
        num_blocks: int,
        num_heads: int,
        mlp_ratio: float,
        attn_mode: str,
        window_size: int,
    ) -> None:
        super().__init__()
        if attn_mode not in ("swin", "full"):
            raise ValueError(f"attn_mode must be 'swin' or 'full', got {attn_mode!r}")
        self.resolution, self.model_channels = resolution, model_channels
        self.input_layer = nn.Linear(in_channels, model_channels)
        window = window_size if attn_mode == "swin" else None
        self.blocks = nn.ModuleList(
            TransformerBlock(model_channels, num_heads, mlp_ratio, window, window_size // 2 * (index % 2))
            for index in range(num_blocks)
        )

    @abstractmethod
    def forward(self, x: SparseTensor) -> object:
        """Map voxels with in_channels to what the network is for."""

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights."""
        return self.input_layer.weight.dtype

    def transform(self, x: SparseTensor) -> SparseTensor:
        """Map voxels with in_channels to voxels with model_channels; no norm follows the last block."""
        x.grid.check_within(self.resolution)
        h = self.input_layer(x.features.to(self.dtype))
        h = h + absolute_position_embedding(x.grid.coordinates[:, 1:], self.model_channels).to(h.dtype)
        for block in self.blocks:
            h = block(h, x.grid)
        return x.replace(h)
