"""Adapted layers of our sparse networks: the submanifold convolution and the pointwise one.

Letters: N voxels over the whole batch, C channels in, O channels out, R rank.
"""

import copy

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from sam3d_objects.model.latent.mesh_decoder import PointConv
from sam3d_objects.model.lora.apply import add_rows, stretched, working_dtype
from sam3d_objects.model.lora.frame import Frame, Piece
from sam3d_objects.model.lora.layer import LoRALayer
from sam3d_objects.model.lora.options import DEFAULT_ADAPTER, LayerOptions
from sam3d_objects.model.sparse import SparseConv3d, SparseTensor


class LoRASparse(LoRALayer):
    """A frozen sparse layer plus one of its kind to R channels and a matrix from there.

    Args:
        original: a SparseConv3d, with A (R, 3, 3, 3, C), or a PointConv, with A (R, C); B is (O, R). It is frozen and
            kept as it is.
        options: see `LayerOptions`.
        adapter: name of the adapter.
        generator: source of A on the CPU; torch's global one by default.
        draw: False leaves the matrices zero, to be loaded.

    Raises:
        ValueError: another layer.
    """

    def __init__(
        self,
        original: SparseConv3d | PointConv,
        options: LayerOptions | None = None,
        *,
        adapter: str = DEFAULT_ADAPTER,
        generator: torch.Generator | None = None,
        draw: bool = True,
    ) -> None:
        super().__init__()
        if not isinstance(original, SparseConv3d | PointConv):
            raise ValueError(f"LoRASparse adapts a SparseConv3d or PointConv; got {type(original).__name__}")
        self._prepare(self.frame_of(original))
        self.original = original.requires_grad_(False)
        self.add_adapter(adapter, options or LayerOptions(), generator, draw)
        self.train(original.training)

    @staticmethod
    def frame_of(original: SparseConv3d | PointConv) -> Frame:
        """Return what decides the shapes of adapters of a plain layer."""
        shape = tuple(original.conv.weight.shape)
        return Frame(shape[0], shape[-1:] if isinstance(original, PointConv) else shape[1:])

    @property
    def original_weight(self) -> Tensor:
        """The base's weight (O, 3, 3, 3, C) or (O, 1, 1, 1, C)."""
        return self.original.conv.weight

    def matrix(self, weight: Tensor) -> Tensor:
        """Return a weight as (O, 27 C) or (O, C); that of a PointConv holds its numbers as (C, O)."""
        if isinstance(self.original, PointConv):
            return weight.reshape(weight.shape[-1], weight.shape[0]).t()
        return weight.flatten(1)

    def unmatrix(self, matrix: Tensor) -> Tensor:
        """Return a matrix (O, ...) in the shape of the base's weight."""
        return (matrix.t() if isinstance(self.original, PointConv) else matrix).reshape(self.original_weight.shape)

    def unadapted(self) -> nn.Module:
        """Return the base layer."""
        return self.original

    def check_options(self, options: LayerOptions) -> None:
        """Accept every option."""

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Map features (N, C) to (N, O) at the same voxels; the dtype is the base's."""
        base = self.original(x)
        pieces, gain = self.update()
        if not pieces:
            return base
        wide = working_dtype(base.features, pieces)
        rows = base.features.to(wide)
        if gain is not None:
            rows = stretched(rows, gain, self.original.conv.bias, 1)
        inputs = x.replace(x.features.to(wide))
        if isinstance(self.original, PointConv):
            rows = add_rows(rows, inputs.features, pieces, self.training)
        else:
            rows = self._convolved(rows, inputs, pieces)
        return base.replace(rows.to(base.features.dtype))

    def _convolved(self, rows: Tensor, x: SparseTensor, pieces: list[Piece]) -> Tensor:
        for piece in pieces:
            kernel = {"conv.weight": piece.down, "conv.bias": piece.down.new_zeros(len(piece.down))}
            some = x.replace(F.dropout(x.features, piece.dropout, self.training))
            reduced = functional_call(self.original, kernel, (some,)).features
            rows = torch.addmm(rows, reduced, piece.up.t(), alpha=piece.scale)
        return rows

    def merge_weights(self) -> nn.Module:
        """Return a new sparse layer with the update added to the weight; ValueError while disabled."""
        self.require_use()
        merged = copy.deepcopy(self.original)
        with torch.no_grad():
            merged.conv.weight.copy_(self.weight)
        return merged.train(self.training)
