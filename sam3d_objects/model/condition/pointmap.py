"""The pointmap embedder: one token per window of points.

Letters: B batch, W windows a side, p points a window's side, C channels.
"""

import torch
from torch import Tensor, nn

from sam3d_objects.model.condition.vit import VitBlock


class PointPatchEmbed(nn.Module):
    """Embed a pointmap (B, 3, Y, X) as one token per p x p window.

    Points that are not finite take a learnt token. `remap_output` must be 'linear', which leaves points as they are.
    """

    def __init__(
        self,
        input_size: int = 256,
        patch_size: int = 8,
        embed_dim: int = 512,
        remap_output: str = "linear",
        num_heads: int = 16,
    ) -> None:
        super().__init__()
        if remap_output != "linear":
            raise ValueError(f"PointPatchEmbed knows remap_output 'linear', not {remap_output!r}")
        self.input_size, self.patch_size, self.embed_dim = input_size, patch_size, embed_dim
        side = input_size // patch_size
        self.point_proj = nn.Linear(3, embed_dim)
        self.invalid_xyz_token = nn.Parameter(torch.zeros(embed_dim))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.pos_embed = nn.Parameter(torch.randn(1, embed_dim, side, side) * 0.02)
        self.pos_embed_window = nn.Parameter(torch.randn(1, 1 + patch_size**2, embed_dim) * 0.02)
        self.blocks = nn.ModuleList([VitBlock(embed_dim, num_heads, mlp_ratio=2.0)])

    def embed_points(self, points: Tensor, valid: Tensor | None = None) -> Tensor:
        """Map points (B, S, S, 3) to (B, S, S, C); `valid` (B, S, S) defaults to the finite ones."""
        if valid is None:
            valid = points.isfinite().all(dim=-1)
        clean = torch.where(valid[..., None], points, 0.0).to(self.point_proj.weight.dtype)
        return torch.where(valid[..., None], self.point_proj(clean), self.invalid_xyz_token)

    def forward(self, pointmap: Tensor, valid: Tensor | None = None) -> Tensor:
        """Map (B, 3, Y, X) to tokens (B, W^2, C), windows row by row.

        `valid` (B, S, S) at the input size replaces the test for finite points.
        """
        size = (self.input_size, self.input_size)
        points = nn.functional.interpolate(pointmap.float(), size=size, mode="nearest").permute(0, 2, 3, 1)
        x = self.embed_points(points, valid)
        batch, p, side = x.shape[0], self.patch_size, self.input_size // self.patch_size
        x = x.unflatten(2, (side, p)).unflatten(1, (side, p)).transpose(2, 3)  # (B, W, W, p, p, C)
        x = x.reshape(batch * side * side, p * p, -1)
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1) + self.pos_embed_window
        for block in self.blocks:
            x = block(x)
        positions = nn.functional.interpolate(self.pos_embed, size=(side, side), mode="bilinear", align_corners=False)
        return x[:, 0].unflatten(0, (batch, side * side)) + positions.flatten(2).transpose(1, 2)
