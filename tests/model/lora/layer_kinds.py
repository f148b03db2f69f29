"""One small layer of every kind that can be adapted, inside a model, with an input for it."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sam3d_objects.model.latent.mesh_decoder import PointConv
from sam3d_objects.model.sparse import SparseConv3d, SparseGrid, SparseTensor


def voxels(channels: int) -> SparseTensor:
    """Features of twelve voxels of two samples, some of them neighbours."""
    generator = torch.Generator().manual_seed(2)
    cells = torch.tensor([[x, y, z] for x in range(3) for y in range(2) for z in range(1)])
    coordinates = torch.cat([torch.cat([torch.full((6, 1), b), cells + b], dim=1) for b in range(2)]).int()
    return SparseTensor(torch.randn(12, channels, generator=generator), SparseGrid(coordinates, batch=2))


class Attend(nn.Module):
    """Self-attention by `nn.MultiheadAttention`, with a causal mask."""

    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.inner = nn.MultiheadAttention(6, 2, batch_first=batch_first)

    def forward(self, x: Tensor) -> Tensor:
        length = x.shape[1 if self.inner.batch_first else 0]
        mask = torch.full((length, length), float("-inf")).triu(1)
        out: Tensor = self.inner(x, x, x, attn_mask=mask, need_weights=False)[0]
        return out


class Call(nn.Module):
    """Calls the layer `inner`, and reads features where it returns voxels."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Any) -> Tensor:
        out: Tensor | SparseTensor = self.inner(x)
        return out if isinstance(out, Tensor) else out.features


def _noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


KINDS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Any]]] = {
    "linear": (lambda: Call(nn.Linear(6, 9)), lambda: _noise(2, 5, 6)),
    "linear of one axis": (lambda: Call(nn.Linear(6, 9)), lambda: _noise(6)),
    "linear of a view": (lambda: Call(nn.Linear(6, 9, bias=False)), lambda: _noise(2, 6, 5).transpose(1, 2)),
    "conv1d": (lambda: Call(nn.Conv1d(6, 9, 3, padding=1, padding_mode="circular")), lambda: _noise(2, 6, 5)),
    "conv2d 1x1": (lambda: Call(nn.Conv2d(6, 9, 1, bias=False)), lambda: _noise(2, 6, 4, 3)),
    "conv2d": (lambda: Call(nn.Conv2d(6, 9, 3, stride=2, dilation=2, padding=2)), lambda: _noise(2, 6, 7, 5)),
    "conv2d of groups": (lambda: Call(nn.Conv2d(6, 9, 3, padding="same", groups=3)), lambda: _noise(2, 6, 4, 4)),
    "conv2d without a batch": (lambda: Call(nn.Conv2d(6, 9, (1, 3))), lambda: _noise(6, 4, 4)),
    "conv3d": (lambda: Call(nn.Conv3d(6, 9, 2, padding=1)), lambda: _noise(2, 6, 3, 4, 3)),
    "embedding": (lambda: Call(nn.Embedding(11, 6, padding_idx=0)), lambda: torch.arange(11).view(1, 11)),
    "attention": (lambda: Attend(batch_first=True), lambda: _noise(2, 5, 6)),
    "attention of sequences first": (lambda: Attend(batch_first=False), lambda: _noise(5, 2, 6)),
    "sparse convolution": (lambda: Call(SparseConv3d(6, 9)), lambda: voxels(6)),
    "sparse point convolution": (lambda: Call(PointConv(6, 9)), lambda: voxels(6)),
}


def build(kind: str) -> tuple[nn.Module, Any]:
    """Return the model of a kind and an input; the layer sits at `inner`."""
    torch.manual_seed(0)
    model, inputs = KINDS[kind]
    return model(), inputs()
