"""What is known of a solid beside what the decoder says of its shell: what the shell encloses, and that it ends.

The released way takes every vertex that no active cube touches for outside, so that a shell of voxels gets an inner
surface as well, and leaves a surface open where it meets the border of the grid. Who knows what the shell encloses
gives it here: the solid then has its outer surface alone, closed, also where the decoder leaves a hole in the wall.

Letters: r voxels along a side, R cubes along a side of the fine grid, A active vertices.
"""

import torch
from torch import Tensor, nn

from sam3d_objects.model.flexicubes.corners import CornerValues
from sam3d_objects.model.flexicubes.keys import corner_union, find, places_of

_INSIDE = -1.0  # sdf of a vertex of these voxels; as far from zero as the released constant for outside
_BORDER = 0.5  # at least, on the border of the grid: the longest side of a solid reaches it


class Interior:
    """Voxels (r, r, r), bool, wholly inside and without active cubes; r divides R."""

    def __init__(self, voxels: Tensor, resolution: int) -> None:
        side = voxels.shape[0]
        if voxels.shape != (side, side, side) or resolution % side:
            found = tuple(voxels.shape)
            raise ValueError(f"interior: expected (r, r, r) with r a divisor of {resolution}, got {found}")
        self.voxels, self.resolution, self.factor = voxels, resolution, resolution // side

    def fill(self, corners: CornerValues) -> CornerValues:
        """Add the vertices of the outermost interior voxels, where no active cube touches them, as inside.

        The deeper ones need not be listed: `holds` knows them. Vertices on the border of the grid become outside.
        """
        steps = torch.arange(self.factor, device=self.voxels.device)
        within = torch.cartesian_prod(steps, steps, steps)
        cubes = (torch.argwhere(self.voxels & ~self.deep())[:, None] * self.factor + within).flatten(0, 1)
        keys = corner_union(cubes, self.resolution) if len(cubes) else corners.keys[:0]
        added = keys[~find(corners.keys, keys)[1]]
        merged, order = torch.sort(torch.cat([corners.keys, added]))
        count = len(added)
        sdf = torch.cat([corners.sdf, corners.sdf.new_full((count,), _INSIDE)])[order]
        deform = nn.functional.pad(corners.deform, (0, 0, 0, count))[order]
        colour = None if corners.colour is None else nn.functional.pad(corners.colour, (0, 0, 0, count))[order]
        places = places_of(merged, self.resolution + 1)
        at_border = ((places == 0) | (places == self.resolution)).any(dim=1)
        sdf = torch.where(at_border, sdf.clamp(min=_BORDER), sdf)
        return CornerValues(corners.resolution, merged, sdf, deform, colour, corners.weights, corners.disagreement)

    def holds(self, vertices: Tensor) -> Tensor:
        """Whether vertices (A, 3) that are not listed anywhere lie inside, bool (A,)."""
        voxel = vertices.clamp(0, self.resolution - 1) // self.factor
        return self.voxels[voxel.unbind(1)]

    def deep(self) -> Tensor:
        """The interior voxels (r, r, r) whose 26 neighbours are all interior."""
        other = (~self.voxels).float()[None, None]
        beside = nn.functional.max_pool3d(nn.functional.pad(other, (1,) * 6, value=1.0), 3, stride=1)
        return self.voxels & (beside[0, 0] == 0)
