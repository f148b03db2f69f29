"""Submanifold 3^3 convolution: out-voxels are the in-voxels (Graham et al. 2018, arXiv 1711.10275).

Letters: N voxels over the whole batch, C channels in, O channels out, P pairs of neighbours at one tap.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from sam3d_objects.model.sparse.neighbours import CENTRE, TAPS, NeighbourMap
from sam3d_objects.model.sparse.tensor import SparseTensor

# Bound of a tap's gathered rows and their products together: what stays in a CPU's cache; on a GPU, few launches.
CPU_CHUNK_BYTES = 4 * 2**20
GPU_CHUNK_BYTES = 64 * 2**20


class SparseConv3d(nn.Module):
    """A 3^3 convolution evaluated at the active voxels; inactive ones count as zero.

    It equals a dense `conv3d` with padding 1 and the weight `conv.weight.permute(0, 4, 1, 2, 3)`.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = _Kernel(in_channels, out_channels)

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Map features (N, C) to (N, O)."""
        tensors: list[Tensor] = [x.features, self.conv.weight, self.conv.bias]
        device = x.features.device.type
        if torch.is_autocast_enabled(device) and x.features.dtype != torch.float64:
            tensors = [tensor.to(torch.get_autocast_dtype(device)) for tensor in tensors]
        return x.replace(_Convolve.apply(*tensors, x.grid.neighbours))


class _Kernel(nn.Module):
    """Weight (O, 3, 3, 3, C) and bias (O,), one level down as the released keys `conv.weight`, `conv.bias` are."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, 3, 3, 3, in_channels))
        self.bias = nn.Parameter(torch.empty(out_channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw both as `nn.Conv3d` does."""
        bound = (TAPS * self.weight.shape[-1]) ** -0.5
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)


class _Convolve(torch.autograd.Function):
    """Gather a tap's sources - one matmul - add to its targets, tap by tap.

    A voxel of a surface shell has 9 to 15 of 27 neighbours, one of a subdivided shell up to 22. One matmul of all 27
    gathered side by side multiplies zeros for the others: on a CPU it took 1.6 times as long on the first, and about as
    long on the second. Saved for backward are features and weight only; rows are gathered again. Half precision is
    summed over the taps in float32.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, bias: Tensor, neighbours: NeighbourMap) -> Tensor:
        ctx.save_for_backward(features, weight)
        ctx.neighbours = neighbours
        taps = weight.flatten(1, 3)  # (O, 27, C)
        rows = _rows(features, weight, neighbours)
        gathered, products = features.new_empty(rows, weight.shape[-1]), features.new_empty(rows, weight.shape[0])
        with torch.autocast(features.device.type, enabled=False):
            out = torch.addmm(bias, features, taps[:, CENTRE].T).to(_wide(features))
            for tap, source, target in neighbours.taps(rows):
                some, product = gathered[: len(source)], products[: len(source)]
                torch.index_select(features, 0, source, out=some)
                _add_rows(out, target, torch.mm(some, taps[:, tap].T, out=product))
        return out.to(features.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        features, weight = ctx.saved_tensors
        wanted, taps = ctx.needs_input_grad, weight.flatten(1, 3)
        rows = _rows(features, weight, ctx.neighbours)
        wide, narrow = features.new_empty(rows, weight.shape[0]), features.new_empty(rows, weight.shape[-1])
        with torch.autocast(features.device.type, enabled=False):
            to_features = (gradient @ taps[:, CENTRE]).to(_wide(features)) if wanted[0] else None
            to_taps = torch.zeros_like(taps, dtype=_wide(features)) if wanted[1] else None
            if to_taps is not None:
                to_taps[:, CENTRE] = gradient.T @ features
            for tap, source, target in ctx.neighbours.taps(rows) if wanted[0] or wanted[1] else ():
                some, product = wide[: len(source)], narrow[: len(source)]
                torch.index_select(gradient, 0, target, out=some)
                if to_features is not None:
                    _add_rows(to_features, source, torch.mm(some, taps[:, tap], out=product))
                if to_taps is not None:
                    to_taps[:, tap] += some.T @ torch.index_select(features, 0, source, out=product)
        return (
            None if to_features is None else to_features.to(features.dtype),
            None if to_taps is None else to_taps.view_as(weight).to(weight.dtype),
            gradient.sum(0) if wanted[2] else None,
            None,
        )


def _wide(features: Tensor) -> torch.dtype:
    return torch.promote_types(features.dtype, torch.float32)


def _rows(features: Tensor, weight: Tensor, neighbours: NeighbourMap) -> int:
    """Pairs at a time such that their rows of C and of O channels stay within the bound."""
    chunk_bytes = CPU_CHUNK_BYTES if features.device.type == "cpu" else GPU_CHUNK_BYTES
    bound = chunk_bytes // ((weight.shape[0] + weight.shape[-1]) * features.element_size())
    return max(1, min(bound, neighbours.longest))


def _add_rows(total: Tensor, index: Tensor, rows: Tensor) -> None:
    """total[index] += rows, where no index is there twice."""
    rows = rows.to(total.dtype)
    if total.device.type == "cpu":  # faster there; on a GPU it has no deterministic variant
        total.scatter_add_(0, index.long()[:, None].expand(-1, rows.shape[1]), rows)
    else:
        total.index_add_(0, index, rows)
