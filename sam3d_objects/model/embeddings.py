"""Embeddings of time and of place. Letters: B batch, N points, C channels."""

import math

import torch
from torch import Tensor, nn

FREQUENCIES = 256
MAX_PERIOD = 10_000.0


def sinusoids(t: Tensor, width: int = FREQUENCIES, max_period: float = MAX_PERIOD) -> Tensor:
    """Return (B, width) sinusoids `[cos, sin]` of t (B,), as in DDPM; t is in network units (0 to 1000)."""
    half = width // 2
    steps = torch.arange(half, dtype=torch.float32, device=t.device)
    frequencies = torch.exp(-math.log(max_period) * steps / half)
    angles = t[:, None].float() * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class TimestepEmbedder(nn.Module):
    """Sinusoids, then Linear-SiLU-Linear to C channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(FREQUENCIES, channels), nn.SiLU(), nn.Linear(channels, channels))

    def forward(self, t: Tensor) -> Tensor:
        """Embed t (B,), already times 1000, as (B, C)."""
        return self.mlp(sinusoids(t).to(next(self.mlp.parameters()).dtype))


def absolute_position_embedding(coordinates: Tensor, channels: int) -> Tensor:
    """Embed 3D coordinates (N, 3) as (N, channels): per axis `[sin, cos]` of C // 6 frequencies, zero-padded.

    The frequencies are 1e4^(-i/f) for i < f = C // 3 // 2; the axes stand in the order x, y, z.
    """
    count = channels // 3 // 2
    steps = torch.arange(count, dtype=torch.float32, device=coordinates.device)
    frequencies = 1.0 / (MAX_PERIOD ** (steps / count))
    angles = coordinates.float()[..., None] * frequencies
    embedded = torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(1)
    return nn.functional.pad(embedded, (0, channels - embedded.shape[1]))


def grid_coordinates(resolution: int) -> Tensor:
    """Return the (R^3, 3) int64 coordinates of a cube of side R in C order (x slowest, z fastest)."""
    axis = torch.arange(resolution)
    return torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1).reshape(-1, 3)
