"""Windows of a sparse grid: which voxels attend to each other, laid out so that little is padded.

Letters: N voxels over the whole batch, P rows with padding, W windows of one group.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from sam3d_objects.model.sparse.coordinates import linear_keys

# A window of n voxels is padded to at most PADDING x n (and not at all below 1 / (PADDING - 1) = 8 voxels).
PADDING = 1.125


@dataclass(frozen=True, eq=False)
class WindowGroup:
    """W windows of like size, each padded to `longest` rows; `real` is bool (W, longest), or None where nothing is."""

    count: int
    longest: int
    real: Tensor | None


@dataclass(frozen=True, eq=False)
class Windows:
    """All windows of a grid, laid out group after group, window after window, with padding: P <= PADDING x N rows.

    `rows` int64 (P,) are the voxels laid there (padding repeats a voxel of the window), `back` int64 (N,) is where each
    voxel is laid.
    """

    groups: tuple[WindowGroup, ...]
    rows: Tensor
    back: Tensor


def find_windows(coordinates: Tensor, extent: tuple[int, int, int], size: int, shift: int) -> Windows:
    """Group voxels int32 (N, 4) by the windows floor((coordinate + shift) / size) of their sample."""
    device = coordinates.device
    moved = torch.cat([coordinates[:, :1], (coordinates[:, 1:] + shift) // size], dim=1)
    x, y, z = ((side - 1 + shift) // size + 1 for side in extent)
    keys, order = linear_keys(moved, (x, y, z)).sort(stable=True)
    lengths = torch.unique_consecutive(keys, return_counts=True)[1]
    starts = lengths.cumsum(0) - lengths
    lengths, by_length = lengths.sort(stable=True)
    starts = starts[by_length]
    groups, rows, laid, first = [], [order[:0]], [torch.zeros(0, dtype=torch.bool, device=device)], 0
    for count, shortest, longest in _like_sizes(lengths):
        start, length = (part[first : first + count, None] for part in (starts, lengths))
        place = torch.arange(longest, device=device)
        real = place < length
        groups.append(WindowGroup(count, longest, None if shortest == longest else real))
        rows.append(order[start + torch.where(real, place, 0)].flatten())
        laid.append(real.flatten())
        first += count
    all_rows, back = torch.cat(rows), torch.empty_like(order)
    at = torch.cat(laid).nonzero()[:, 0]
    back[all_rows[at]] = at
    return Windows(tuple(groups), all_rows, back)


def _like_sizes(lengths: Tensor) -> list[tuple[int, int, int]]:
    """Cut ascending lengths (W,) into groups (count, shortest, longest) such that longest <= PADDING x shortest."""
    sizes, counts = (part.tolist() for part in torch.unique_consecutive(lengths, return_counts=True))
    groups: list[tuple[int, int, int]] = []
    for size, count in zip(sizes, counts, strict=True):
        if groups and size <= PADDING * groups[-1][1]:
            groups[-1] = (groups[-1][0] + count, groups[-1][1], size)
        else:
            groups.append((count, size, size))
    return groups
