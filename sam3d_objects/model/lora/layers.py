"""The adapted linear layer (Hu et al. 2021, "LoRA", arXiv 2106.09685).

Letters: in, out the features of the layer; r the rank; ... any leading axes.
"""

import copy
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class LoRALinear(nn.Module):
    """A frozen linear layer plus a trainable update of low rank: y = W x + b + (alpha / r) B A dropout(x).

    A (r, in) starts Kaiming-uniform and B (out, r) at zero, so a fresh adapter equals its base exactly. Both
    are kept in float32 at least (float64 for a float64 base), whatever the base's dtype: updates are small,
    and bfloat16 would round them away. They are drawn on the CPU, so that a seed gives the same adapter on
    every device.

    Args:
        original_linear: the layer to adapt; it is frozen and kept as it is.
        rank: r, at least 1.
        alpha: the update is scaled by alpha / r.
        dropout: probability of dropping an input of the update while training, in [0, 1).
        generator: source of A on the CPU; torch's global one by default.

    Attributes:
        enabled: False makes the layer behave as its base does.

    Raises:
        ValueError: no nn.Linear, already adapted, or an option out of range.
    """

    def __init__(
        self,
        original_linear: nn.Linear,
        rank: int = 4,
        alpha: float = 8.0,
        dropout: float = 0.0,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(original_linear, nn.Linear):
            raise ValueError(f"LoRALinear adapts an nn.Linear once; got {type(original_linear).__name__}")
        check_layer_options(rank, alpha, dropout)
        self.original_linear = original_linear.requires_grad_(False)
        self.rank, self.alpha = rank, float(alpha)
        self.enabled = True
        self.dropout = nn.Dropout(dropout) if dropout > 0 else nn.Identity()
        base = original_linear.weight
        dtype = torch.promote_types(base.dtype, torch.float32)
        self.lora_A = nn.Parameter(torch.empty(rank, self.in_features, dtype=dtype, device=base.device))
        self.lora_B = nn.Parameter(torch.zeros(self.out_features, rank, dtype=dtype, device=base.device))
        self.reset_parameters(generator)
        self.train(original_linear.training)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw A anew (Kaiming-uniform with a = sqrt(5), as nn.Linear draws its weight) and set B to zero."""
        with torch.no_grad():
            self.lora_B.zero_()
            if not self.lora_A.is_meta:
                drawn = torch.empty(self.lora_A.shape, dtype=self.lora_A.dtype, device="cpu")
                self.lora_A.copy_(nn.init.kaiming_uniform_(drawn, a=math.sqrt(5), generator=generator))

    @property
    def in_features(self) -> int:
        """Number of input features."""
        return self.original_linear.in_features

    @property
    def out_features(self) -> int:
        """Number of output features."""
        return self.original_linear.out_features

    @property
    def scaling(self) -> float:
        """The factor alpha / rank of the update."""
        return self.alpha / self.rank

    @property
    def dropout_rate(self) -> float:
        """The probability with which an input of the update is dropped in training."""
        return self.dropout.p if isinstance(self.dropout, nn.Dropout) else 0.0

    @property
    def weight(self) -> Tensor:
        """The weight (out, in) that this layer stands for, computed at each call: W + (alpha / r) B A.

        Summed in float32 at least, then cast to the base's dtype. The base's own weight while not `enabled`.
        """
        base = self.original_linear.weight
        if not self.enabled:
            return base
        dtype = torch.promote_types(base.dtype, torch.float32)
        update = self.lora_B.to(dtype) @ self.lora_A.to(dtype)
        return (base.to(dtype) + self.scaling * update).to(base.dtype)

    @property
    def bias(self) -> Tensor | None:
        """The bias (out,) of the base, or None."""
        return self.original_linear.bias

    def forward(self, x: Tensor) -> Tensor:
        """Map x (..., in) to (..., out); the dtype is the one that the base would return."""
        base = self.original_linear(x)
        if not self.enabled:
            return base
        # Autocast casts by itself; without it, a half precision base is added to the update in float32.
        wide = base.dtype if _autocast_is_on(x.device.type) else self.lora_A.dtype
        reduced = F.linear(self.dropout(x.to(wide)), self.lora_A)
        # One fused multiply-add instead of a product, a scaling and a sum of full size each.
        rows = torch.addmm(
            base.to(wide).reshape(-1, self.out_features),
            reduced.reshape(-1, self.rank),
            self.lora_B.t(),
            alpha=self.scaling,
        )
        return rows.view(base.shape).to(base.dtype)

    def merge_weights(self) -> nn.Linear:
        """Return a new linear layer with the update added to the weight; this layer stays as it is.

        Raises:
            ValueError: the adapter is disabled, so that the merged layer would not be what the layer
                computes.
        """
        if not self.enabled:
            raise ValueError("a disabled adapter is not merged: set `enabled = True` first")
        merged = copy.deepcopy(self.original_linear)
        with torch.no_grad():
            merged.weight.copy_(self.weight)
        return merged.train(self.training)

    def extra_repr(self) -> str:
        """Return what `print(model)` shows of this layer."""
        return f"rank={self.rank}, alpha={self.alpha:g}, enabled={self.enabled}"


def _autocast_is_on(device_type: str) -> bool:
    # The second question is an error for devices that have no autocast, such as meta.
    return torch.amp.is_autocast_available(device_type) and torch.is_autocast_enabled(device_type)


def check_layer_options(rank: int, alpha: float, dropout: float) -> None:
    """Raise ValueError unless rank is a whole number from 1, alpha finite and positive, dropout in [0, 1)."""
    if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
        raise ValueError(f"LoRA rank is a whole number of at least 1, got {rank!r}")
    if not (isinstance(alpha, int | float) and math.isfinite(alpha) and alpha > 0):
        raise ValueError(f"LoRA alpha is a finite number above 0, got {alpha!r}")
    if not (isinstance(dropout, int | float) and 0 <= dropout < 1):
        raise ValueError(f"LoRA dropout lies in [0, 1), got {dropout!r}")
