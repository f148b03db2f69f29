"""The latent flow: velocity of the per-voxel latents, given the surface voxels and condition tokens.

Letters: N voxels, M voxels of the halved grid, B samples, C channels, H heads, S condition tokens.
Voxels go through two residual blocks to a grid half as fine, through transformer blocks there, and back with skips.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from sam3d_objects.model.attention import FeedForward
from sam3d_objects.model.embeddings import TimestepEmbedder, absolute_position_embedding
from sam3d_objects.model.latent.transformer import BLOCK_EPS, SparseSelfAttention, plain_norm
from sam3d_objects.model.sparse import (
    SparseConv3d,
    SparseGrid,
    SparseTensor,
    attend_condition,
    downsample,
    upsample,
)

OUT_EPS = 1e-5


def of_voxels(values: Tensor, grid: SparseGrid) -> Tensor:
    """Give each voxel its sample's row of (B, C), as (N, C); one row for all stays (1, C) and is broadcast."""
    return values if values.shape[0] == 1 else values[grid.coordinates[:, 0].long()]


class SparseCrossAttention(nn.Module):
    """Voxels attend to their sample's condition tokens; q and k are not normalised."""

    def __init__(self, channels: int, condition_channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(channels, channels)
        self.to_kv = nn.Linear(condition_channels, 2 * channels)
        self.to_out = nn.Linear(channels, channels)

    def forward(self, x: Tensor, grid: SparseGrid, condition: Tensor) -> Tensor:
        """Map voxels (N, C) and condition (B, S, Cc) to (N, C)."""
        q = self.to_q(x).unflatten(-1, (self.heads, -1))
        k, v = self.to_kv(condition).unflatten(-1, (2, self.heads, -1)).unbind(2)
        return self.to_out(attend_condition(q, k, v, grid))


class ModulatedCrossBlock(nn.Module):
    """Modulated self-attention, cross-attention, modulated MLP (adaLN-zero: Peebles and Xie 2022, arXiv 2212.09748)."""

    def __init__(self, channels: int, condition_channels: int, heads: int, mlp_ratio: float, qk_rms_norm: bool) -> None:
        super().__init__()
        self.norm2 = nn.LayerNorm(channels, eps=BLOCK_EPS)
        self.self_attn = SparseSelfAttention(channels, heads, None, qk_rms_norm=qk_rms_norm)
        self.cross_attn = SparseCrossAttention(channels, condition_channels, heads)
        self.mlp = FeedForward(channels, mlp_ratio)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(channels, 6 * channels))

    def forward(self, x: Tensor, grid: SparseGrid, time: Tensor, condition: Tensor) -> Tensor:
        """Map voxels (M, C) to (M, C), given the time embedding (B or 1, C) and condition (B, S, Cc)."""
        modulation = self.adaLN_modulation(time).chunk(6, dim=-1)
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = (of_voxels(part, grid) for part in modulation)
        h = plain_norm(x, BLOCK_EPS) * (1 + scale_a) + shift_a
        x = x + gate_a * self.self_attn(h, grid)
        x = x + self.cross_attn(self.norm2(x), grid, condition)
        h = plain_norm(x, BLOCK_EPS) * (1 + scale_m) + shift_m
        return x + gate_m * self.mlp(h)


class SparseResBlock(nn.Module):
    """Two convolutions modulated by time, plus skip; the grid is halved or restored first, where asked for."""

    def __init__(self, channels: int, out_channels: int, time_channels: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=BLOCK_EPS)
        self.conv1 = SparseConv3d(channels, out_channels)
        self.conv2 = SparseConv3d(out_channels, out_channels)
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(time_channels, 2 * out_channels))
        self.skip_connection = nn.Identity() if channels == out_channels else nn.Linear(channels, out_channels)

    def forward(self, x: SparseTensor, time: Tensor) -> SparseTensor:
        """Map (N, C) to (N, C'), given the time embedding (B or 1, Ct)."""
        # Scale comes first here, unlike in the transformer blocks' modulation.
        scale, shift = (of_voxels(part, x.grid) for part in self.emb_layers(time).chunk(2, dim=-1))
        h = self.conv1(x.replace(nn.functional.silu(self.norm1(x.features))))
        h = h.replace(nn.functional.silu(plain_norm(h.features, BLOCK_EPS) * (1 + scale) + shift))
        return h.replace(self.conv2(h).features + self.skip_connection(x.features))


class LatentFlow(nn.Module):
    """Velocity of the latents (N, 8).

    Args:
        resolution: side of the grid that the voxels are in.
        io_block_channels: width of the outer residual blocks for each halving of the grid; the release halves once.
        num_io_res_blocks: residual blocks on the way in and on the way out, for each halving.
        patch_size: 2 to the number of halvings.

    The remaining arguments (`use_fp16`, `condition_embedder`, ...) are part of released configs and are
    checked or ignored.
    """

    def __init__(
        self,
        resolution: int,
        in_channels: int,
        model_channels: int,
        cond_channels: int,
        out_channels: int,
        num_blocks: int,
        num_heads: int,
        io_block_channels: Sequence[int],
        mlp_ratio: float = 4,
        patch_size: int = 2,
        num_io_res_blocks: int = 2,
        pe_mode: str = "ape",
        qk_rms_norm: bool = True,
        force_zeros_cond: bool = True,
        condition_embedder: None = None,
        use_fp16: bool = False,
    ) -> None:
        super().__init__()
        for given, needed, name in (
            (pe_mode, "ape", "pe_mode"),
            (force_zeros_cond, True, "force_zeros_cond"),
            (patch_size, 2 ** len(io_block_channels), "patch_size"),
        ):
            if given != needed:
                raise ValueError(f"LatentFlow knows {name}={needed!r} here, not {given!r}")
        self.resolution, self.in_channels, self.model_channels = resolution, in_channels, model_channels
        self.per_level = num_io_res_blocks
        widths = [*io_block_channels, model_channels]
        self.t_embedder = TimestepEmbedder(model_channels)
        self.input_layer = nn.Linear(in_channels, widths[0])
        self.input_blocks = nn.ModuleList()
        self.out_blocks = nn.ModuleList()
        for width, inner in pairwise(widths):
            same = [SparseResBlock(width, width, model_channels) for _ in range(num_io_res_blocks - 1)]
            self.input_blocks.extend([*same, SparseResBlock(width, inner, model_channels)])
        for width, inner in reversed(list(pairwise(widths))):
            same = [SparseResBlock(2 * width, width, model_channels) for _ in range(num_io_res_blocks - 1)]
            self.out_blocks.extend([SparseResBlock(2 * inner, width, model_channels), *same])
        self.blocks = nn.ModuleList(
            ModulatedCrossBlock(model_channels, cond_channels, num_heads, mlp_ratio, qk_rms_norm)
            for _ in range(num_blocks)
        )
        self.out_layer = nn.Linear(widths[0], out_channels)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights."""
        return self.input_layer.weight.dtype

    def forward(self, x: SparseTensor, t: Tensor, condition: Tensor) -> Tensor:
        """Predict the velocity (N, 8) of latents (N, 8).

        Args:
            t: (B,) or (1,), times 1000.
            condition: tokens (B, S, Cc).
        """
        x.grid.check_within(self.resolution)
        time = self.t_embedder(t)
        h = x.replace(self.input_layer(x.features))
        skips: list[Tensor] = []
        finer: list[SparseGrid] = []
        for index, block in enumerate(self.input_blocks):
            if index % self.per_level == self.per_level - 1:
                finer.append(h.grid)
                h = downsample(h)
            h = block(h, time)
            skips.append(h.features)
        tokens = h.features + absolute_position_embedding(h.grid.coordinates[:, 1:], self.model_channels).to(time.dtype)
        for block in self.blocks:
            tokens = block(tokens, h.grid, time, condition)
        h = h.replace(tokens)
        for index, block in enumerate(self.out_blocks):
            h = h.replace(torch.cat([h.features, skips.pop()], dim=-1))
            if index % self.per_level == 0:
                h = upsample(h, finer.pop())
            h = block(h, time)
        return self.out_layer(plain_norm(h.features, OUT_EPS))
