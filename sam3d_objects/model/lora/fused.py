"""A frozen linear layer and one low-rank product as a single step of autograd.

Beyond the base's own two matrix products it costs six thin ones, and no tensor of the activations' size: the update is
added to the base's output, and its gradient to the base's, where these lie.

Letters: N rows (tokens), ... any leading axes with N in all, in and out features, R rank.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

# x, dropped, weight, bias, down, up, scale
_Gradients = tuple[Tensor | None, Tensor | None, None, None, Tensor | None, Tensor | None, None]


class FusedLinear(torch.autograd.Function):
    """y = x W' + b + scale (x down') up' of x (..., in), W (out, in), b (out,), down (R, in), up (out, R).

    All are of one dtype, and x is contiguous where it has more than two axes. `dropped`, where it is given, stands for
    x in the update: x after dropout. W and b get no gradient.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        dropped: Tensor | None,
        weight: Tensor,
        bias: Tensor | None,
        down: Tensor,
        up: Tensor,
        scale: float,
    ) -> Tensor:
        """Return y (..., out)."""
        # Rows are taken here and not by the caller: a view that autograd sees costs as much as a thin product.
        inputs = _rows(x if dropped is None else dropped)
        reduced = inputs @ down.t()
        wants_down, wants_up = ctx.needs_input_grad[4:6]  # A frozen A needs no activations.
        ctx.save_for_backward(inputs if wants_down else None, weight, down, up, reduced if wants_up else None)
        ctx.scale, ctx.drops = scale, dropped is not None
        y = F.linear(x, weight, bias)
        _rows(y).addmm_(reduced, up.t(), alpha=scale)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> _Gradients:
        """Return the gradients of x, of what was dropped from it, of down and up, as far as they are wanted."""
        gradient, leading = gradients[0].reshape(-1, gradients[0].shape[-1]), gradients[0].shape[:-1]
        inputs, weight, down, up, reduced = ctx.saved_tensors
        wants_x, wants_dropped, wants_down, wants_up = (ctx.needs_input_grad[i] for i in (0, 1, 4, 5))
        to_up = (reduced.t() @ gradient).t() * ctx.scale if wants_up else None
        # With up as it lies, (out, R), a CPU takes four times as long for this product as with its transpose.
        inner = (gradient @ up.t().contiguous().t()) * ctx.scale  # (N, R)
        to_down = inner.t() @ inputs if wants_down else None
        to_x = gradient @ weight if wants_x else None
        if to_x is not None:
            if not ctx.drops:
                to_x.addmm_(inner, down)
            to_x = to_x.view(*leading, weight.shape[1])
        to_dropped = (inner @ down).view(*leading, weight.shape[1]) if wants_dropped else None
        return to_x, to_dropped, None, None, to_down, to_up, None


def _rows(x: Tensor) -> Tensor:
    return x.view(-1, x.shape[-1])
