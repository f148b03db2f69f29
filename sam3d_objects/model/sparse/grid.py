"""Where the voxels of a packed batch are, and what is derived from that, each made once.

Letters: N voxels over the whole batch, B samples.
"""

from functools import cached_property

import torch
from torch import Tensor

from sam3d_objects.model.sparse.coordinates import check_coordinates, coordinates_of, debug_mode, linear_keys
from sam3d_objects.model.sparse.neighbours import NeighbourMap, find_neighbours
from sam3d_objects.model.sparse.windows import Windows, find_windows


class SparseGrid:
    """Coordinates int32 (N, 4) = sample, x, y, z of active voxels, all of sample 0 first, then sample 1, ...

    Layers share one grid, so that its neighbour map, windows and coarser and finer grids are made once. With the
    environment variable SAM3D_DEBUG=1 each new grid is checked (see `check_coordinates`); otherwise wrong coordinates
    give wrong results.

    Raises:
        ValueError: no voxel at all and no `batch`; in debug mode whatever `check_coordinates` refuses.
    """

    def __init__(self, coordinates: Tensor, batch: int | None = None) -> None:
        if batch is None:
            if not len(coordinates):
                raise ValueError("there is no voxel in the whole batch: a structure with active voxels was expected")
            # Grouped by sample, so the last row has the last sample; the debug mode does not rely on that.
            batch = int(coordinates[:, 0].max() if debug_mode() else coordinates[-1, 0]) + 1
        if debug_mode():
            check_coordinates(coordinates, max(batch, 1))
        assert coordinates.ndim == 2 and coordinates.shape[1] == 4 and coordinates.dtype == torch.int32
        self.coordinates = coordinates
        self.batch = batch
        self._windows: dict[tuple[int, int], Windows] = {}

    def __len__(self) -> int:
        return len(self.coordinates)

    def check_within(self, resolution: int) -> None:
        """In debug mode, refuse voxels beyond a network's grid of so many voxels a side (ValueError)."""
        if debug_mode():
            check_coordinates(self.coordinates, self.batch, resolution)

    @property
    def device(self) -> torch.device:
        """Where the coordinates are."""
        return self.coordinates.device

    @cached_property
    def counts(self) -> list[int]:
        """Voxels of each of the B samples."""
        return torch.bincount(self.coordinates[:, 0], minlength=self.batch).tolist()

    @cached_property
    def offsets(self) -> list[int]:
        """Row of each sample's first voxel, and N at the end: B + 1 numbers."""
        offsets = [0]
        for count in self.counts:
            offsets.append(offsets[-1] + count)
        return offsets

    @cached_property
    def extent(self) -> tuple[int, int, int]:
        """Sides of the box from the origin that holds the voxels of every sample."""
        if not len(self):
            return 0, 0, 0
        x, y, z = (self.coordinates[:, 1:].amax(0) + 1).tolist()
        return x, y, z

    @cached_property
    def neighbours(self) -> NeighbourMap:
        """The pairs of voxels that 3^3 convolutions connect."""
        return find_neighbours(self.coordinates, self.extent)

    def windows(self, size: int, shift: int) -> Windows:
        """The voxels of each sample by equal floor((coordinate + shift) / size)."""
        if (size, shift) not in self._windows:
            self._windows[size, shift] = find_windows(self.coordinates, self.extent, size, shift)
        return self._windows[size, shift]

    def downsampled(self) -> tuple["SparseGrid", Tensor]:
        """The grid of coordinates // 2, sorted lexicographically, and the row there of each voxel, int64 (N,)."""
        return self._downsampled

    @cached_property
    def _downsampled(self) -> tuple["SparseGrid", Tensor]:
        x, y, z = ((side + 1) // 2 for side in self.extent)
        halved = torch.cat([self.coordinates[:, :1], self.coordinates[:, 1:] // 2], dim=1)
        keys, parent = torch.unique(linear_keys(halved, (x, y, z)), return_inverse=True)
        return SparseGrid(coordinates_of(keys, (x, y, z)), self.batch), parent

    def subdivided(self) -> "SparseGrid":
        """The grid of each voxel's 8 children, 8 rows after another, in C order (z fastest)."""
        return self._subdivided

    @cached_property
    def _subdivided(self) -> "SparseGrid":
        corner = torch.arange(8, dtype=torch.int32, device=self.device)
        child = torch.stack([torch.zeros_like(corner), corner // 4, corner // 2 % 2, corner % 2], dim=1)
        scale = torch.tensor([1, 2, 2, 2], dtype=torch.int32, device=self.device)
        return SparseGrid((self.coordinates[:, None] * scale + child).flatten(0, 1), self.batch)

    def to(self, device: torch.device | str) -> "SparseGrid":
        """The same grid on a device; itself if it is there. What was derived is derived again there."""
        coordinates = self.coordinates.to(device)
        return self if coordinates is self.coordinates else SparseGrid(coordinates, self.batch)
