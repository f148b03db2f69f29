"""Adding low-rank products to what the base layer computed.

Letters: N rows (tokens, voxels), in and out features, R rank.
"""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional as F

from sam3d_objects.model.lora.frame import Piece


def working_dtype(base: Tensor, pieces: list[Piece]) -> torch.dtype:
    """Return the dtype of the update: autocast's own, or without it the adapter's, which is float32 at least."""
    return base.dtype if _autocast_is_on(base.device.type) else pieces[0].down.dtype


def stretched(base: Tensor, gain: Tensor, bias: Tensor | None, axis: int) -> Tensor:
    """Return base + gain * (base - bias): what the base computed, each output feature of `axis` longer by its gain.

    Exactly the base where the gain is 0, as that of a fresh adapter is.
    """
    shape = [1] * base.dim()
    shape[axis] = -1
    linear = base if bias is None else base - bias.view(shape)
    return torch.addcmul(base, linear, gain.to(base.dtype).view(shape))


def fused_dtype(x: Tensor, weight: Tensor, down: Tensor) -> torch.dtype | None:
    """Return the one dtype in which base and update can be computed together, or None where each needs its own.

    Autocast's, where it is on (it leaves float64 alone); without it the common one. A half-precision base without
    autocast has its update in float32.
    """
    if _autocast_is_on(x.device.type) and torch.float64 not in (x.dtype, weight.dtype):
        return torch.get_autocast_dtype(x.device.type)
    return x.dtype if x.dtype == weight.dtype == down.dtype else None


def add_rows(rows: Tensor, inputs: Tensor, pieces: Iterable[Piece], training: bool) -> Tensor:
    """Return rows (N, out) plus the products of inputs (..., in) with each piece, by one fused multiply-add a piece.

    Args:
        rows: what the base computed, in the working dtype.
        inputs: in the working dtype, N rows in all.
        pieces: `down` (R, in).
        training: whether inputs are dropped.
    """
    for piece in pieces:
        some = F.dropout(inputs, piece.dropout, training) if piece.dropout else inputs
        reduced = F.linear(some, piece.down).reshape(len(rows), -1)
        rows = torch.addmm(rows, reduced, piece.up.t(), alpha=piece.scale)
    return rows


def _autocast_is_on(device_type: str) -> bool:
    # The second question is an error for devices that have no autocast, such as meta.
    return torch.amp.is_autocast_available(device_type) and torch.is_autocast_enabled(device_type)
