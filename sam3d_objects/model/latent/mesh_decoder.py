"""The mesh decoder: latents on surface voxels -> features of fine cubes, from which FlexiCubes makes the surface.

Letters: N voxels of the latent's grid, C channels; two subdivisions make 64 N cubes of a grid four times as fine.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sam3d_objects.model.latent.transformer import SparseTransformer
from sam3d_objects.model.sparse import SparseConv3d, SparseGroupNorm, SparseTensor, subdivide

SUBDIVISIONS = 2
GEOMETRY_CHANNELS, COLOUR_CHANNELS = 53, 48


class _PointKernel(nn.Module):
    """A 1x1x1 convolution's weight (Cout, 1, 1, 1, Cin) and bias, read as the released software reads them.

    It folds the stored numbers to (Cin, Cout) without transposing them, and the released weights were trained so:
    x @ W.reshape(Cin, Cout).
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, 1, 1, 1, in_channels))
        self.bias = nn.Parameter(torch.empty(out_channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weight as `nn.Linear` does; the bias is 0."""
        nn.init.kaiming_uniform_(self.weight.view(len(self.weight), -1), a=math.sqrt(5))
        nn.init.zeros_(self.bias)

    def forward(self, features: Tensor) -> Tensor:
        out_channels, in_channels = self.weight.shape[0], self.weight.shape[-1]
        return features @ self.weight.reshape(in_channels, out_channels) + self.bias


class PointConv(nn.Module):
    """Map each voxel's channels for itself; `conv` holds the numbers under the released name."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = _PointKernel(in_channels, out_channels)

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Map (N, Cin) to (N, Cout)."""
        return x.replace(self.conv(x.features))


class SubdivideBlock(nn.Module):
    """Norm and SiLU, subdivide, two convolutions; plus the subdivided input."""

    def __init__(self, channels: int, out_channels: int, norm_groups: int) -> None:
        super().__init__()
        self.act_layers = nn.ModuleList([SparseGroupNorm(channels, norm_groups)])
        self.out_layers = nn.ModuleList(
            [
                SparseConv3d(channels, out_channels),
                SparseGroupNorm(out_channels, norm_groups),
                nn.SiLU(),
                SparseConv3d(out_channels, out_channels),
            ]
        )
        self.skip_connection = PointConv(channels, out_channels)

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Map (N, C) to (8 N, C')."""
        norm = self.act_layers[0](x)
        h = subdivide(norm.replace(nn.functional.silu(norm.features)))
        first, middle, activation, second = self.out_layers
        h = middle(first(h))
        h = second(h.replace(activation(h.features)))
        # Voxel by voxel the skip commutes with subdividing, and costs an eighth before it.
        return h.replace(h.features + subdivide(self.skip_connection(x)).features)


class MeshDecoder(SparseTransformer):
    """Latents (N, 8) -> features (64 N, 101) of the cubes of a grid four times as fine.

    Args:
        representation_config: `use_color` adds the 48 colour channels.
        norm_groups: of the group norms; 32 in the release.

    `use_fp16` and `device` belong to released configs and change nothing here.
    """

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
        norm_groups: int = 32,
        use_fp16: bool = False,
        device: str | None = None,
    ) -> None:
        super().__init__(
            resolution, latent_channels, model_channels, num_blocks, num_heads, mlp_ratio, attn_mode, window_size
        )
        widths = (model_channels, model_channels // 4, model_channels // 8)
        self.upsample = nn.ModuleList(
            SubdivideBlock(widths[i], widths[i + 1], norm_groups) for i in range(SUBDIVISIONS)
        )
        with_colour = bool((representation_config or {}).get("use_color", False))
        self.out_layer = nn.Linear(widths[-1], GEOMETRY_CHANNELS + COLOUR_CHANNELS * with_colour)

    @property
    def fine_resolution(self) -> int:
        """Side of the grid of cubes."""
        return self.resolution * 2**SUBDIVISIONS

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Map latents (N, 8) to the features of the fine cubes (64 N, 53 or 101)."""
        h = self.transform(x)
        for block in self.upsample:
            h = block(h)
        return h.replace(self.out_layer(h.features))
