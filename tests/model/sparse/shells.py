"""Voxels to test with, and the dense reference of a sparse convolution."""

import torch
from torch import Tensor, nn

from sam3d_objects.model.sparse import SparseConv3d, SparseGrid, SparseTensor


def sphere_shell(resolution: int, radius: float, thickness: float = 1.2) -> Tensor:
    """Voxels of a cube within thickness / 2 of a sphere around its middle: int32 (N, 3) in C order."""
    axis = torch.arange(resolution) - (resolution - 1) / 2
    distance = (axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis**2).sqrt()
    return ((distance - radius).abs() <= thickness / 2).nonzero().int()


def packed(*samples: Tensor) -> SparseGrid:
    """A grid of samples, int32 (N_i, 3) each; a sample may be empty."""
    rows = [nn.functional.pad(places, (1, 0), value=sample) for sample, places in enumerate(samples)]
    return SparseGrid(torch.cat(rows).int(), batch=len(samples))


def random_batch(resolution: int = 7, share: float = 0.3, batch: int = 2, shuffled: bool = True) -> SparseGrid:
    """Random voxels of a cube, in any order within a sample."""
    samples = []
    for _ in range(batch):
        places = (torch.rand((resolution,) * 3) < share).nonzero()
        samples.append(places[torch.randperm(len(places))] if shuffled else places)
    return packed(*samples)


def dense_convolution(layer: SparseConv3d, x: SparseTensor, resolution: int) -> Tensor:
    """What `conv3d` with padding 1 on the zero-filled cube gives at the active voxels: (N, O)."""
    sample, i, j, k = x.grid.coordinates.long().unbind(1)
    cube = x.features.new_zeros(x.grid.batch, resolution, resolution, resolution, x.features.shape[1])
    cube = cube.index_put((sample, i, j, k), x.features).permute(0, 4, 1, 2, 3)
    weight = layer.conv.weight.permute(0, 4, 1, 2, 3)
    return nn.functional.conv3d(cube, weight, layer.conv.bias, padding=1)[sample, :, i, j, k]
