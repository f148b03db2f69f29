"""Which active voxels are neighbours: the map that every 3^3 convolution on one set of coordinates shares.

Letters: N voxels over the whole batch, P pairs of one tap. A tap is one of the 27 places of a kernel, numbered in C
order (x slowest): tap t reads the voxel at +(t // 9 - 1, t // 3 % 3 - 1, t % 3 - 1), and tap 26 - t the opposite one.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from sam3d_objects.model.sparse.coordinates import linear_keys

TAPS = 27
CENTRE = 13
# (dx, dy) of the runs of three taps before the centre's own; the taps after the centre mirror those before it.
RUNS = ((-1, -1), (-1, 0), (-1, 1), (0, -1))


@dataclass(frozen=True, eq=False)
class NeighbourMap:
    """For each tap t < 13 the pairs (source, target), int32 (P,), such that source lies at target + offset of t.

    Targets ascend where the voxels are sorted, and no voxel is twice a target (or a source) of the same tap.
    """

    sources: tuple[Tensor, ...]
    targets: tuple[Tensor, ...]

    @property
    def pairs(self) -> int:
        """Pairs of all 27 taps together, each voxel with itself left out."""
        return 2 * sum(map(len, self.targets))

    @property
    def longest(self) -> int:
        """Pairs of the tap that has the most."""
        return max(map(len, self.targets))

    @property
    def nbytes(self) -> int:
        """Memory that the map holds, in bytes."""
        return sum(part.nbytes for part in (*self.sources, *self.targets))

    def taps(self, rows: int) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield (tap, sources, targets) for the 26 taps around the centre, at most `rows` pairs at a time."""
        for tap, (sources, targets) in enumerate(zip(self.sources, self.targets, strict=True)):
            for source, target in zip(sources.split(rows), targets.split(rows), strict=True):
                yield tap, source, target
                yield TAPS - 1 - tap, target, source


def find_neighbours(coordinates: Tensor, extent: tuple[int, int, int]) -> NeighbourMap:
    """Build the map of int32 (N, 4) coordinates in a box of `extent`, by 4 searches in the sorted voxel numbers.

    A margin of one voxel keeps the numbers of neighbours from wrapping around into the next row. The three voxels of a
    run along z have consecutive numbers, so that one search finds all of them.
    """
    box = (extent[0] + 2, extent[1] + 2, extent[2] + 2)
    keys, order = linear_keys(coordinates, box).sort()
    order = order.int()
    padded = torch.cat([keys, keys.new_full((1,), -1)])  # the search may point behind the last voxel
    sources, targets = [], []
    for dx, dy in RUNS:
        wanted = keys + ((dx * box[1] + dy) * box[2] - 1)
        place = torch.searchsorted(keys, wanted)
        for _ in range(3):
            found = padded[place] == wanted
            target = found.nonzero()[:, 0]
            targets.append(order[target])
            sources.append(order[place[target]])
            place, wanted = place + found, wanted + 1
    below = (keys[1:] == keys[:-1] + 1).nonzero()[:, 0]  # the run through the centre needs no search
    targets.append(order[below + 1])
    sources.append(order[below])
    return NeighbourMap(tuple(sources), tuple(targets))
