"""The dense structure VAE: occupancy (B, 1, R, R, R) <-> latent (B, L, r, r, r).

Letters: B batch, C channels, R grid side, r = R / 4 latent side, L latent channels.

Section 3 of TRELLIS's sparse-structure VAE (Xiang et al. 2024, arXiv 2412.01506), as SAM 3D Objects releases it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class ChannelLayerNorm(nn.LayerNorm):
    """Layer norm over the channels of (B, C, X, Y, Z), computed in float32."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x (B, C, X, Y, Z) over C; the dtype is kept."""
        weight, bias = self.weight.float(), self.bias.float()
        moved = x.movedim(1, -1).float()
        return nn.functional.layer_norm(moved, self.normalized_shape, weight, bias, self.eps).movedim(-1, 1).to(x.dtype)


def pixel_shuffle_3d(x: Tensor, factor: int) -> Tensor:
    """Move channels into space: (B, C f^3, X, Y, Z) -> (B, C, X f, Y f, Z f)."""
    x = x.unflatten(1, (-1, factor, factor, factor))  # (B, C, fx, fy, fz, X, Y, Z)
    x = x.permute(0, 1, 5, 2, 6, 3, 7, 4)
    return x.flatten(6, 7).flatten(4, 5).flatten(2, 3)


class ResBlock3d(nn.Module):
    """(norm - SiLU - conv) twice, plus skip."""

    def __init__(self, channels: int, out_channels: int | None = None) -> None:
        super().__init__()
        out_channels = out_channels or channels
        self.norm1 = ChannelLayerNorm(channels)
        self.norm2 = ChannelLayerNorm(out_channels)
        self.conv1 = nn.Conv3d(channels, out_channels, 3, padding=1)
        self.conv2 = nn.Conv3d(out_channels, out_channels, 3, padding=1)
        same = channels == out_channels
        self.skip_connection = nn.Identity() if same else nn.Conv3d(channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, X, Y, Z) to (B, C', X, Y, Z)."""
        h = self.conv1(nn.functional.silu(self.norm1(x)))
        h = self.conv2(nn.functional.silu(self.norm2(h)))
        return h + self.skip_connection(x)


class Downsample3d(nn.Module):
    """Halve the grid with a strided convolution."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(channels, out_channels, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, X, Y, Z) to (B, C', X/2, Y/2, Z/2)."""
        return self.conv(x)


class Upsample3d(nn.Module):
    """Double the grid with a convolution to 8 x C' channels and a 3D pixel shuffle."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(channels, out_channels * 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, X, Y, Z) to (B, C', 2X, 2Y, 2Z)."""
        return pixel_shuffle_3d(self.conv(x), 2)


def _check_norm(norm_type: str) -> None:
    if norm_type != "layer":
        raise ValueError(f"the structure VAE knows norm_type 'layer', not {norm_type!r}")


class StructureEncoder(nn.Module):
    """Occupancy to the mean and log-variance of the latent.

    `use_fp16` is accepted because released configs carry it; the dtype of the weights decides instead.
    """

    def __init__(
        self,
        in_channels: int,
        latent_channels: int,
        num_res_blocks: int,
        channels: Sequence[int],
        num_res_blocks_middle: int = 2,
        norm_type: str = "layer",
        use_fp16: bool = False,
    ) -> None:
        super().__init__()
        _check_norm(norm_type)
        self.input_layer = nn.Conv3d(in_channels, channels[0], 3, padding=1)
        self.blocks = nn.ModuleList()
        for level, width in enumerate(channels):
            self.blocks.extend(ResBlock3d(width) for _ in range(num_res_blocks))
            if level + 1 < len(channels):
                self.blocks.append(Downsample3d(width, channels[level + 1]))
        last = channels[-1]
        self.middle_block = nn.Sequential(*(ResBlock3d(last) for _ in range(num_res_blocks_middle)))
        self.out_layer = nn.Sequential(
            ChannelLayerNorm(last), nn.SiLU(), nn.Conv3d(last, 2 * latent_channels, 3, padding=1)
        )

    def forward(self, occupancy: Tensor) -> tuple[Tensor, Tensor]:
        """Map occupancy (B, 1, R, R, R) to (mean, logvar), each (B, L, r, r, r)."""
        h = self.input_layer(occupancy.to(self.input_layer.weight.dtype))
        for block in self.blocks:
            h = block(h)
        mean, logvar = self.out_layer(self.middle_block(h)).chunk(2, dim=1)
        return mean, logvar

    @staticmethod
    def sample(mean: Tensor, logvar: Tensor, noise: Tensor) -> Tensor:
        """Draw from the posterior: mean + exp(logvar / 2) noise."""
        return mean + torch.exp(0.5 * logvar) * noise


class StructureDecoder(nn.Module):
    """Latent to occupancy logits; a voxel is occupied where its logit is above 0.

    With `reshape_input_to_cube` the input is flat tokens (B, r^3, L) in C order x, y, z.
    """

    def __init__(
        self,
        out_channels: int,
        latent_channels: int,
        num_res_blocks: int,
        channels: Sequence[int],
        num_res_blocks_middle: int = 2,
        norm_type: str = "layer",
        reshape_input_to_cube: bool = False,
        use_fp16: bool = False,
    ) -> None:
        super().__init__()
        _check_norm(norm_type)
        self.reshape_input_to_cube = reshape_input_to_cube
        first, last = channels[0], channels[-1]
        self.input_layer = nn.Conv3d(latent_channels, first, 3, padding=1)
        self.middle_block = nn.Sequential(*(ResBlock3d(first) for _ in range(num_res_blocks_middle)))
        self.blocks = nn.ModuleList()
        for level, width in enumerate(channels):
            self.blocks.extend(ResBlock3d(width) for _ in range(num_res_blocks))
            if level + 1 < len(channels):
                self.blocks.append(Upsample3d(width, channels[level + 1]))
        self.out_layer = nn.Sequential(ChannelLayerNorm(last), nn.SiLU(), nn.Conv3d(last, out_channels, 3, padding=1))

    def forward(self, latent: Tensor) -> Tensor:
        """Map the latent (B, L, r, r, r), or (B, r^3, L) tokens, to logits (B, 1, R, R, R)."""
        if self.reshape_input_to_cube:
            latent = tokens_to_cube(latent)
        h = self.middle_block(self.input_layer(latent.to(self.input_layer.weight.dtype)))
        for block in self.blocks:
            h = block(h)
        return self.out_layer(h)


def cube_to_tokens(cube: Tensor) -> Tensor:
    """Flatten (B, L, r, r, r) to tokens (B, r^3, L) in C order x, y, z."""
    return cube.flatten(2).transpose(1, 2).contiguous()


def tokens_to_cube(tokens: Tensor) -> Tensor:
    """Fold tokens (B, r^3, L), C order x, y, z, to (B, L, r, r, r)."""
    side = round(tokens.shape[1] ** (1 / 3))
    assert side**3 == tokens.shape[1], f"{tokens.shape[1]} tokens do not fill a cube"
    return tokens.transpose(1, 2).unflatten(2, (side, side, side)).contiguous()
