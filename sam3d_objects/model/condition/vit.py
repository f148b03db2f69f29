"""DINOv2 with registers (Oquab et al. 2023, arXiv 2304.07193; Darcet et al. 2023, arXiv 2309.16588).

Letters: B batch, T tokens, C channels, H heads, P patch. The parameter names are DINOv2's.
"""

import torch
from torch import Tensor, nn

from sam3d_objects.model.attention import attend


class VitAttention(nn.Module):
    """Self-attention with a fused qkv projection."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T, C) to (B, T, C)."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).unbind(2)
        return self.proj(attend(q, k, v))


class VitMlp(nn.Module):
    """Linear, GELU (erf), Linear."""

    def __init__(self, channels: int, ratio: float) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, int(channels * ratio))
        self.fc2 = nn.Linear(int(channels * ratio), channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T, C) to (B, T, C)."""
        return self.fc2(nn.functional.gelu(self.fc1(x)))


class LayerScale(nn.Module):
    """A learnt factor per channel."""

    def __init__(self, channels: int, initial: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((channels,), initial))

    def forward(self, x: Tensor) -> Tensor:
        """Scale (..., C)."""
        return x * self.gamma


class VitBlock(nn.Module):
    """Pre-norm attention and MLP; LayerScale only where an initial value is given."""

    def __init__(self, channels: int, heads: int, mlp_ratio: float, layer_scale: float | None = None) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=1e-6)
        self.attn = VitAttention(channels, heads)
        self.ls1 = nn.Identity() if layer_scale is None else LayerScale(channels, layer_scale)
        self.norm2 = nn.LayerNorm(channels, eps=1e-6)
        self.mlp = VitMlp(channels, mlp_ratio)
        self.ls2 = nn.Identity() if layer_scale is None else LayerScale(channels, layer_scale)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T, C) to (B, T, C)."""
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class PatchEmbed(nn.Module):
    """Non-overlapping patches through one linear layer, written as a convolution."""

    def __init__(self, channels: int, patch_size: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, channels, patch_size, stride=patch_size)

    def forward(self, image: Tensor) -> Tensor:
        """Map (B, 3, Y, X) to (B, T, C), row by row."""
        return self.proj(image).flatten(2).transpose(1, 2)


class VisionTransformer(nn.Module):
    """DINOv2's ViT with register tokens.

    Args:
        img_size: the side (pixels) for which `pos_embed` was trained; other sides interpolate it.
        layer_scale: LayerScale's initial value.
    """

    def __init__(
        self,
        img_size: int,
        patch_size: int,
        embed_dim: int,
        depth: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        num_register_tokens: int = 4,
        layer_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.patch_size, self.embed_dim = patch_size, embed_dim
        side = img_size // patch_size
        self.cls_token = nn.Parameter(torch.randn(1, 1, embed_dim) * 1e-6)
        self.register_tokens = nn.Parameter(torch.randn(1, num_register_tokens, embed_dim) * 1e-6)
        self.mask_token = nn.Parameter(torch.zeros(1, embed_dim))  # only DINOv2's own training uses it
        self.pos_embed = nn.Parameter(torch.randn(1, 1 + side * side, embed_dim) * 0.02)
        self.patch_embed = PatchEmbed(embed_dim, patch_size)
        self.blocks = nn.ModuleList(VitBlock(embed_dim, num_heads, mlp_ratio, layer_scale) for _ in range(depth))
        self.norm = nn.LayerNorm(embed_dim, eps=1e-6)

    @property
    def register_count(self) -> int:
        """How many register tokens stand between the cls token and the patches."""
        return self.register_tokens.shape[1]

    def positions(self, rows: int, columns: int) -> Tensor:
        """Return `pos_embed` for a grid of patches, (1, 1 + rows * columns, C); bicubic, antialiased, offset 0."""
        side = round((self.pos_embed.shape[1] - 1) ** 0.5)
        if (rows, columns) == (side, side):
            return self.pos_embed
        grid = self.pos_embed[:, 1:].float().unflatten(1, (side, side)).permute(0, 3, 1, 2)
        grid = nn.functional.interpolate(grid, size=(rows, columns), mode="bicubic", antialias=True)
        return torch.cat([self.pos_embed[:, :1], grid.flatten(2).transpose(1, 2).to(self.pos_embed.dtype)], dim=1)

    def forward(self, image: Tensor) -> Tensor:
        """Map (B, 3, Y, X) to the tokens before the last norm, (B, 1 + registers + patches, C).

        Raises:
            ValueError: the image's sides are no multiples of the patch size.
        """
        rows, columns = (side // self.patch_size for side in image.shape[-2:])
        if (rows * self.patch_size, columns * self.patch_size) != tuple(image.shape[-2:]):
            raise ValueError(f"image sides {tuple(image.shape[-2:])} are no multiples of the patch {self.patch_size}")
        batch = image.shape[0]
        x = torch.cat([self.cls_token.expand(batch, -1, -1), self.patch_embed(image)], dim=1)
        x = x + self.positions(rows, columns)
        x = torch.cat([x[:, :1], self.register_tokens.expand(batch, -1, -1), x[:, 1:]], dim=1)
        for block in self.blocks:
            x = block(x)
        return x
