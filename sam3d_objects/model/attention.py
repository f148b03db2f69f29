"""Attention and feed-forward parts that the transformers share.

Letters: B batch, T tokens, C channels, H heads, D head width.
"""

import torch
from torch import Tensor, nn


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Softmax attention of q (B, T, H, D) over k, v (B, S, H, D) with scale D^-0.5; returns (B, T, H * D)."""
    out = nn.functional.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
    return out.transpose(1, 2).flatten(2)


class MultiHeadRMSNorm(nn.Module):
    """Normalise each head's vector to length sqrt(D), then scale by a learnt gamma (H, D)."""

    def __init__(self, heads: int, width: int) -> None:
        super().__init__()
        self.scale = width**0.5
        self.gamma = nn.Parameter(torch.empty(heads, width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start with a gamma of 1."""
        nn.init.ones_(self.gamma)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x (..., H, D) in float32 at least and return it in its own dtype."""
        unit = nn.functional.normalize(x.to(torch.promote_types(x.dtype, torch.float32)), dim=-1)
        return (unit * self.gamma * self.scale).to(x.dtype)


class CrossAttention(nn.Module):
    """Attention of tokens x over condition tokens; no normalisation of q and k."""

    def __init__(self, channels: int, condition_channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(channels, channels)
        self.to_kv = nn.Linear(condition_channels, 2 * channels)
        self.to_out = nn.Linear(channels, channels)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Map x (B, T, C) and condition (B, S, Cc) to (B, T, C).

        The condition's batch may be a divisor of x's, b = B / n: then its row i serves the n rows of x from i n on.
        Each token of x attends for itself, so these rows are laid end to end and the keys are made once.
        """
        rows = x.shape[0] // condition.shape[0]
        q = self.to_q(x).unflatten(-1, (self.heads, -1)).unflatten(0, (-1, rows)).flatten(1, 2)  # (b, n T, H, D)
        k, v = self.to_kv(condition).unflatten(-1, (2, self.heads, -1)).unbind(2)
        return self.to_out(attend(q, k, v).unflatten(1, (rows, -1)).flatten(0, 1))


class FeedForward(nn.Module):
    """Linear to ratio x C, GELU (tanh), Linear back."""

    def __init__(self, channels: int, ratio: float = 4.0) -> None:
        super().__init__()
        hidden = int(channels * ratio)
        self.mlp = nn.Sequential(nn.Linear(channels, hidden), nn.GELU(approximate="tanh"), nn.Linear(hidden, channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T, C) to (B, T, C)."""
        return self.mlp(x)
