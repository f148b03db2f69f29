"""Coarser and finer voxels. Letters: N voxels over the whole batch, M coarser ones, C channels."""

import torch

from sam3d_objects.model.sparse.grid import SparseGrid
from sam3d_objects.model.sparse.tensor import SparseTensor


def downsample(x: SparseTensor) -> SparseTensor:
    """Halve the resolution, (N, C) to (M, C): the sum over a voxel's active children divided by their count + 1.

    A mean divides by the count; the released network was trained with this, so its weights need it.
    """
    coarse, parent = x.grid.downsampled()
    # Half precision would lose bits in the sum.
    total = x.features.new_zeros(
        len(coarse), x.features.shape[1], dtype=torch.promote_types(x.features.dtype, torch.float32)
    )
    total = total.index_add(0, parent, x.features.to(total.dtype))
    count = torch.bincount(parent, minlength=len(coarse))
    return SparseTensor((total / (count + 1)[:, None]).to(x.features.dtype), coarse)


def upsample(x: SparseTensor, grid: SparseGrid) -> SparseTensor:
    """Copy coarse features (M, C) to the voxels of the finer grid that was downsampled to x's: (N, C)."""
    coarse, parent = grid.downsampled()
    assert coarse is x.grid or torch.equal(coarse.coordinates, x.grid.coordinates)
    return SparseTensor(x.features.index_select(0, parent), grid)


def subdivide(x: SparseTensor) -> SparseTensor:
    """Double the resolution, (N, C) to (8 N, C): each voxel's 8 children, in C order, have its features."""
    return SparseTensor(x.features.repeat_interleave(8, dim=0), x.grid.subdivided())
