"""A structure decoder that needs no training."""

import torch
from torch import Tensor, nn


class Ball(nn.Module):
    """A structure decoder that always says: a ball in the middle."""

    logits: Tensor

    def __init__(self, side: int, radius: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        axis = torch.arange(side) + 0.5 - side / 2
        distance = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij")).norm(dim=0)
        self.register_buffer("logits", 4 * (radius - distance)[None, None])

    def forward(self, latent: Tensor) -> Tensor:
        return (self.logits * self.scale).expand(latent.shape[0], 1, -1, -1, -1)


class RodShell(Ball):
    """The voxels around the surface alone, as the release has them, of a rod five times as long as it is thick."""

    def __init__(self, side: int, radius: float) -> None:
        super().__init__(side, radius)
        axis = torch.arange(side) + 0.5 - side / 2
        x, y, z = torch.meshgrid(5 * axis, 5 * axis, axis, indexing="ij")
        distance = torch.stack([x, y, z]).norm(dim=0) / 5
        self.logits = 4 * (0.8 - (distance - radius / 5).abs())[None, None]
