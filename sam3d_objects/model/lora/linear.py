"""The adapted linear layer (Hu et al. 2021, "LoRA", arXiv 2106.09685).

Letters: in, out the features of the layer; r the rank; ... any leading axes.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sam3d_objects.model.lora.apply import add_rows, fused_dtype, stretched, working_dtype
from sam3d_objects.model.lora.frame import Frame, Piece
from sam3d_objects.model.lora.fused import FusedLinear
from sam3d_objects.model.lora.layer import LoRALayer
from sam3d_objects.model.lora.options import DEFAULT_ADAPTER, LayerOptions


class LoRALinear(LoRALayer):
    """A frozen linear layer plus a trainable update of low rank: y = W x + b + (alpha / r) B A dropout(x).

    A (r, in) starts Kaiming-uniform and B (out, r) at zero, so a fresh adapter equals its base exactly.

    Args:
        original_linear: the layer to adapt; it is frozen and kept as it is.
        rank, alpha, dropout, rslora, init, dora, parts: see `LayerOptions`.
        adapter: name of the adapter.
        generator: source of A on the CPU; torch's global one by default.
        draw: False leaves the matrices zero, to be loaded.

    Raises:
        ValueError: no nn.Linear, already adapted, or an option out of range.
    """

    base_name = "original_linear"

    def __init__(
        self,
        original_linear: nn.Linear,
        rank: int = 4,
        alpha: float = 8.0,
        dropout: float = 0.0,
        *,
        rslora: bool = False,
        init: str = "kaiming",
        dora: bool = False,
        parts: str = "",
        adapter: str = DEFAULT_ADAPTER,
        generator: torch.Generator | None = None,
        draw: bool = True,
    ) -> None:
        super().__init__()
        if not isinstance(original_linear, nn.Linear):
            raise ValueError(f"LoRALinear adapts an nn.Linear once; got {type(original_linear).__name__}")
        options = LayerOptions(rank, alpha, dropout, rslora, init, dora, parts)
        self._prepare(self.frame_of(original_linear))
        self.original_linear = original_linear.requires_grad_(False)
        self._computes_a_product = type(original_linear).forward is nn.Linear.forward
        self.add_adapter(adapter, options, generator, draw)
        self.train(original_linear.training)

    @staticmethod
    def frame_of(original: nn.Linear) -> Frame:
        """Return what decides the shapes of adapters of a plain layer."""
        return Frame(original.out_features, (original.in_features,))

    @property
    def in_features(self) -> int:
        """Number of input features."""
        return self.original_linear.in_features

    @property
    def out_features(self) -> int:
        """Number of output features."""
        return self.original_linear.out_features

    @property
    def bias(self) -> Tensor | None:
        """The bias (out,) of the base, or None."""
        return self.original_linear.bias

    @property
    def original_weight(self) -> Tensor:
        """The base's weight (out, in)."""
        return self.original_linear.weight

    def matrix(self, weight: Tensor) -> Tensor:
        """Return the weight (out, in) itself."""
        return weight

    def unmatrix(self, matrix: Tensor) -> Tensor:
        """Return the matrix (out, in) itself."""
        return matrix

    def unadapted(self) -> nn.Linear:
        """Return the base layer."""
        return self.original_linear

    def check_options(self, options: LayerOptions) -> None:
        """Accept every option."""

    def forward(self, x: Tensor) -> Tensor:
        """Map x (..., in) to (..., out); the dtype is the one that the base would return."""
        pieces, gain = self.update()
        base = self.original_linear
        if not pieces:
            return base(x)
        has_rows = x.dim() == 2 or (x.dim() > 2 and x.is_contiguous())  # So that no copy is needed to see them.
        if has_rows and gain is None and len(pieces) == 1 and self._is_plain():
            dtype = fused_dtype(x, base.weight, pieces[0].down)
            if dtype is not None:
                return self._fused(x, pieces[0], dtype)
        given = base(x)
        wide = working_dtype(given, pieces)
        rows = given.to(wide).reshape(-1, self.out_features)
        if gain is not None:
            rows = stretched(rows, gain, self.bias, 1)
        rows = add_rows(rows, x.to(wide), pieces, self.training)
        return rows.view(*x.shape[:-1], self.out_features).to(given.dtype)

    def _fused(self, x: Tensor, piece: Piece, dtype: torch.dtype) -> Tensor:
        """Map x (..., in), contiguous or (N, in), to (..., out), computed in a dtype."""
        base, x = self.original_linear, x.to(dtype)
        bias = None if base.bias is None else base.bias.to(dtype)
        dropped = F.dropout(x, piece.dropout) if piece.dropout and self.training else None
        down, up = piece.down.to(dtype), piece.up.to(dtype)
        rows: Tensor = FusedLinear.apply(x, dropped, base.weight.to(dtype), bias, down, up, piece.scale)
        return rows

    def _is_plain(self) -> bool:
        """Whether the base does no more than multiply and add, so that it need not be called."""
        base = self.original_linear
        hooked = base._forward_hooks or base._forward_pre_hooks or base._backward_hooks or base._backward_pre_hooks
        return self._computes_a_product and not hooked and type(base.weight) in (nn.Parameter, Tensor)

    def merge_weights(self) -> nn.Linear:
        """Return a new linear layer with the update added to the weight; this layer stays as it is.

        Raises:
            ValueError: the adapter is disabled, so that the merged layer would not be what the layer
                computes.
        """
        self.require_use()
        merged = copy.deepcopy(self.original_linear)
        with torch.no_grad():
            merged.weight.copy_(self.weight)
        return merged.train(self.training)
