"""Adapted dense convolutions of one, two or three axes.

Letters: B batch, C channels in, O channels out, G groups, k the kernel, L positions, R rank.
"""

import copy
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sam3d_objects.model.lora.apply import stretched, working_dtype
from sam3d_objects.model.lora.frame import Frame, Piece
from sam3d_objects.model.lora.layer import LoRALayer
from sam3d_objects.model.lora.options import DEFAULT_ADAPTER, LayerOptions

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d


class LoRAConv(LoRALayer):
    """A frozen convolution plus one with its kernel to R channels and a 1x1 convolution from there.

    A (R, C / G, *k) has the base's kernel, stride, padding, dilation and padding mode; B is (O, R, 1, ...). With
    groups, each applies A to its own channels.

    Args:
        original: an nn.Conv1d, Conv2d or Conv3d; it is frozen and kept as it is.
        options: see `LayerOptions`; `parts` need one group.
        adapter: name of the adapter.
        generator: source of A on the CPU; torch's global one by default.
        draw: False leaves the matrices zero, to be loaded.

    Raises:
        ValueError: another layer, or parts of a grouped convolution.
    """

    def __init__(
        self,
        original: Convolution,
        options: LayerOptions | None = None,
        *,
        adapter: str = DEFAULT_ADAPTER,
        generator: torch.Generator | None = None,
        draw: bool = True,
    ) -> None:
        super().__init__()
        if not isinstance(original, Convolution):
            raise ValueError(f"LoRAConv adapts an nn.Conv1d, Conv2d or Conv3d; got {type(original).__name__}")
        self._prepare(self.frame_of(original))
        self.original = original.requires_grad_(False)
        self.add_adapter(adapter, options or LayerOptions(), generator, draw)
        self.train(original.training)

    @staticmethod
    def frame_of(original: Convolution) -> Frame:
        """Return what decides the shapes of adapters of a plain layer."""
        return Frame(original.out_channels, tuple(original.weight.shape[1:]), original.weight.dim() - 2)

    @property
    def bias(self) -> Tensor | None:
        """The bias (O,) of the base, or None."""
        return self.original.bias

    @property
    def original_weight(self) -> Tensor:
        """The base's weight (O, C / G, *k)."""
        return self.original.weight

    def matrix(self, weight: Tensor) -> Tensor:
        """Return a weight (O, C / G, *k) as (O, C / G * k)."""
        return weight.flatten(1)

    def unmatrix(self, matrix: Tensor) -> Tensor:
        """Return a matrix (O, C / G * k) as (O, C / G, *k)."""
        return matrix.view(self.original.weight.shape)

    def unadapted(self) -> nn.Module:
        """Return the base layer."""
        return self.original

    def check_options(self, options: LayerOptions) -> None:
        """Raise ValueError for parts of a grouped convolution."""
        if options.parts and self.original.groups > 1:
            raise ValueError(f"parts {options.parts!r} need a convolution of one group, not {self.original.groups}")

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, C, ...) or (C, ...) to O channels, as the base does; the dtype is the base's."""
        pieces, gain = self.update()
        base = self.original(x)
        if not pieces:
            return base
        wide = working_dtype(base, pieces)
        batched = base.dim() == self.original.weight.dim()
        total = (base if batched else base[None]).to(wide)
        if gain is not None:
            total = stretched(total, gain, self.bias, 1)
        inputs = (x if batched else x[None]).to(wide)
        total = self._add(total, inputs, pieces)
        return (total if batched else total[0]).to(base.dtype)

    def _add(self, total: Tensor, inputs: Tensor, pieces: list[Piece]) -> Tensor:
        """Add the products of inputs (B, C, ...) with each piece to what the base gave, (B, O, ...)."""
        groups, channels = self.original.groups, total.shape[1]
        rows = total.reshape(len(total) * groups, channels // groups, -1)  # (B G, O / G, L)
        for piece in pieces:
            some = F.dropout(inputs, piece.dropout, self.training)
            down = piece.down.repeat(groups, *[1] * (piece.down.dim() - 1))
            reduced = cast(nn.Conv2d, self.original)._conv_forward(some, down, None)  # Stride and padding of the base.
            reduced = reduced.reshape(len(rows), len(piece.down), -1)  # (B G, R, L)
            up = piece.up.view(groups, channels // groups, -1).repeat(len(total), 1, 1)
            rows = torch.baddbmm(rows, up, reduced, alpha=piece.scale)
        return rows.view(total.shape)

    def merge_weights(self) -> nn.Module:
        """Return a new convolution with the update added to the weight; ValueError while disabled."""
        self.require_use()
        merged = copy.deepcopy(self.original)
        with torch.no_grad():
            merged.weight.copy_(self.weight)
        return merged.train(self.training)
