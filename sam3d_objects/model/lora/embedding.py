"""The adapted embedding: a table of vectors, called with indices or read as a whole.

Letters: n vectors of d features, r the rank, ... any leading axes.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sam3d_objects.model.lora.apply import working_dtype
from sam3d_objects.model.lora.frame import Frame
from sam3d_objects.model.lora.layer import LoRALayer
from sam3d_objects.model.lora.options import DEFAULT_ADAPTER, LayerOptions


class LoRAEmbedding(LoRALayer):
    """A frozen table (n, d) plus a trainable (scaling B A)'; A (r, n) is looked up and starts at zero, B (d, r) drawn.

    Dropout drops entries of what was looked up in A.

    Args:
        original: the table to adapt; it is frozen and kept as it is.
        options: see `LayerOptions`, without `dora`.
        adapter: name of the adapter.
        generator: source of B on the CPU; torch's global one by default.
        draw: False leaves the matrices zero, to be loaded.

    Raises:
        ValueError: another layer, one with `max_norm` (which rewrites its weight), or `dora`.
    """

    looked_up = True

    def __init__(
        self,
        original: nn.Embedding,
        options: LayerOptions | None = None,
        *,
        adapter: str = DEFAULT_ADAPTER,
        generator: torch.Generator | None = None,
        draw: bool = True,
    ) -> None:
        super().__init__()
        if not isinstance(original, nn.Embedding):
            raise ValueError(f"LoRAEmbedding adapts an nn.Embedding; got {type(original).__name__}")
        if original.max_norm is not None:
            raise ValueError("an embedding with max_norm rewrites its weight, so that it can't be kept frozen")
        self._prepare(self.frame_of(original))
        self.original = original.requires_grad_(False)
        self.add_adapter(adapter, options or LayerOptions(), generator, draw)
        self.train(original.training)

    @staticmethod
    def frame_of(original: nn.Embedding) -> Frame:
        """Return what decides the shapes of adapters of a plain layer."""
        return Frame(original.embedding_dim, (original.num_embeddings,))

    @property
    def original_weight(self) -> Tensor:
        """The base's table (n, d)."""
        return self.original.weight

    def matrix(self, weight: Tensor) -> Tensor:
        """Return a table (n, d) as (d, n)."""
        return weight.t()

    def unmatrix(self, matrix: Tensor) -> Tensor:
        """Return a matrix (d, n) as a table (n, d)."""
        return matrix.t()

    def unadapted(self) -> nn.Module:
        """Return the base layer."""
        return self.original

    def check_options(self, options: LayerOptions) -> None:
        """Raise ValueError for what a table has not."""
        if options.dora:
            raise ValueError("an embedding has no DoRA: its rows are looked up, not multiplied")

    def forward(self, indices: Tensor) -> Tensor:
        """Map indices (...) to vectors (..., d)."""
        base = self.original(indices)
        pieces, _ = self.update()
        if not pieces:
            return base
        rows = base.reshape(-1, base.shape[-1]).to(working_dtype(base, pieces))
        for piece in pieces:
            found = F.embedding(indices.reshape(-1), piece.down.t(), self.original.padding_idx)
            found = F.dropout(found, piece.dropout, self.training)
            rows = torch.addmm(rows, found.to(rows.dtype), piece.up.to(rows.dtype).t(), alpha=piece.scale)
        return rows.view(base.shape).to(base.dtype)

    def merge_weights(self) -> nn.Module:
        """Return a new table with the update added; ValueError while disabled."""
        self.require_use()
        merged = copy.deepcopy(self.original)
        with torch.no_grad():
            merged.weight.copy_(self.weight)
        return merged.train(self.training)
