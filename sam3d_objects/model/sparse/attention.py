"""Attention over packed voxels, without padding them to the largest sample or window.

Letters: N voxels over the whole batch, B samples, S condition tokens, H heads, D head width, W windows of one call,
L rows of each of them.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from sam3d_objects.model.attention import attend
from sam3d_objects.model.sparse.grid import SparseGrid
from sam3d_objects.model.sparse.windows import WindowGroup

# Windows go through in calls whose score matrices take at most this much, for kernels that do write them out.
SCORE_BYTES = 128 * 2**20


def attend_within(q: Tensor, k: Tensor, v: Tensor, grid: SparseGrid) -> Tensor:
    """Let each voxel attend to all voxels of its own sample: q, k, v (N, H, D) to (N, H * D)."""
    samples = zip(*(part.split(grid.counts) for part in (q, k, v)), strict=True)
    return torch.cat([attend(one[None], keys[None], values[None])[0] for one, keys, values in samples])


def attend_condition(q: Tensor, k: Tensor, v: Tensor, grid: SparseGrid) -> Tensor:
    """Let each sample's voxels attend to its condition tokens: q (N, H, D), k and v (B, S, H, D) to (N, H * D)."""
    assert len(k) == grid.batch, (len(k), grid.batch)
    samples = zip(q.split(grid.counts), k, v, strict=True)
    return torch.cat([attend(one[None], keys[None], values[None])[0] for one, keys, values in samples])


def attend_windows(q: Tensor, k: Tensor, v: Tensor, grid: SparseGrid, window: int, shift: int) -> Tensor:
    """Let voxels of one sample attend to each other where floor((coordinate + shift) / window) is equal.

    Maps q, k, v (N, H, D) to (N, H * D). Windows of like size are computed together, padded to at most
    `windows.PADDING` x N rows in all. The scores of one call stay below SCORE_BYTES with any kernel, unless those of a
    single window do not.
    """
    windows = grid.windows(window, shift)
    if not len(grid):
        return q.flatten(1)
    calls = [call for group in windows.groups for call in _calls(group, q.shape[1] * q.element_size())]
    sizes = [group.count * group.longest for group in calls]
    # Laid out once for all calls: one gather apiece here, and one scatter apiece in the backward pass.
    laid = (part.index_select(0, windows.rows).split(sizes) for part in (q, k, v))
    out = torch.cat([_attend_group(*parts) for parts in zip(calls, *laid, strict=True)])
    return out.index_select(0, windows.back)


def _calls(group: WindowGroup, score_bytes: int) -> Iterator[WindowGroup]:
    """Split a group so that its scores, `score_bytes` for each pair of rows, take at most SCORE_BYTES."""
    step = max(1, SCORE_BYTES // (group.longest**2 * score_bytes))
    for first in range(0, group.count, step):
        real = None if group.real is None else group.real[first : first + step]
        yield WindowGroup(min(step, group.count - first), group.longest, real)


def _attend_group(group: WindowGroup, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attend within W windows of L rows: q, k, v (W * L, H, D) to (W * L, H * D); padding is never attended to."""
    q, k, v = (part.unflatten(0, (group.count, group.longest)).transpose(1, 2) for part in (q, k, v))
    mask = None if group.real is None else group.real[:, None, None]
    out = scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return out.transpose(1, 2).flatten(2).flatten(0, 1)
