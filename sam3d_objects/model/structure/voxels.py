"""Which voxels the surface is in, from what the structure decoder says.

Letters: B samples, N voxels over the whole batch, R grid side. Coordinates are int32 (N, 4): batch, x, y, z, grouped
by sample and sorted within it.
"""

import torch
from torch import Tensor
from torch.nn import functional

# The release's bound on the voxels of one object: its latent flow saw no more in training.
MAX_VOXELS = 42_000


def occupied_coordinates(logits: Tensor) -> Tensor:
    """List the occupied voxels (logit > 0) of logits (B, 1, R, R, R) as int32 (N, 4)."""
    return torch.argwhere(logits[:, 0] > 0).int()


def drop_interior(coordinates: Tensor) -> Tensor:
    """Drop the voxels of (N, 4) whose 26 neighbours are all occupied; beyond the grid nothing is."""
    if coordinates.shape[0] == 0:
        return coordinates
    batch, x, y, z = coordinates.long().unbind(1)
    side = int(coordinates[:, 1:].max()) + 1
    empty = torch.ones(int(batch[-1]) + 1, 1, side, side, side, device=coordinates.device)
    empty[batch, 0, x, y, z] = 0
    beside_empty = functional.max_pool3d(functional.pad(empty, (1,) * 6, value=1.0), kernel_size=3, stride=1)
    return coordinates[beside_empty[batch, 0, x, y, z] > 0]


def crossed_coordinates(share: Tensor, level: float = 0.5) -> Tensor:
    """List the voxels that the surface `share` = `level` of a solid passes through, as int32 (N, 4).

    A voxel counts where its centre and its eight corners, each the mean of the eight voxels around it, lie on both
    sides of the level: what trilinear interpolation says. The surface of a voxel that is filled by less than half lies
    in a voxel that is not occupied, so the shell of the occupied ones would miss it.

    Args:
        share: (B, 1, R, R, R) filled share of each voxel, in [0, 1]; beyond the grid it is 0.
    """
    corners = functional.avg_pool3d(functional.pad(share, (1,) * 6), kernel_size=2, stride=1)  # (B, 1, R+1, R+1, R+1)
    highest = torch.maximum(functional.max_pool3d(corners, kernel_size=2, stride=1), share)
    lowest = torch.minimum(-functional.max_pool3d(-corners, kernel_size=2, stride=1), share)
    return torch.argwhere((highest > level)[:, 0] & (lowest <= level)[:, 0]).int()


def surface_coordinates(logits: Tensor, solid: bool) -> Tensor:
    """List the surface's voxels in logits (B, 1, R, R, R) as int32 (N, 4).

    Args:
        solid: the logits are of a solid's share in each voxel, else of surface voxels, as in the release.
    """
    return crossed_coordinates(logits.float().sigmoid()) if solid else drop_interior(occupied_coordinates(logits))


def enclosed(solid: Tensor, coordinates: Tensor) -> Tensor:
    """What a surface's voxels (N, 4) enclose, (B, R, R, R) bool: the solid (B, 1, R, R, R), bool, without them."""
    interior = solid[:, 0].clone()
    batch, x, y, z = coordinates.long().unbind(1)
    interior[batch, x, y, z] = False
    return interior


def limit_count(coordinates: Tensor, maximum: int = MAX_VOXELS, generator: torch.Generator | None = None) -> Tensor:
    """Bring every sample of (N, 4) to at most `maximum` voxels.

    A sample with more is halved in size around its middle c: each coordinate x becomes round((x - c) / 2 + c), within
    the halved extent. What is still too much is cut at random with the CPU generator.
    """
    parts = []
    for sample in coordinates.split(torch.bincount(coordinates[:, 0]).tolist()):
        if sample.shape[0] > maximum:
            sample = _halved(sample)
        if sample.shape[0] > maximum:
            kept = torch.randperm(sample.shape[0], generator=generator)[:maximum].sort().values
            sample = sample[kept.to(sample.device)]
        parts.append(sample)
    return torch.cat(parts) if parts else coordinates


def _halved(sample: Tensor) -> Tensor:
    """Halve one sample's (N, 4) extent; voxels that fall together become one."""
    places = sample[:, 1:].double()
    low, high = places.amin(dim=0), places.amax(dim=0)
    middle, reach = (low + high) / 2, (high - low) / 4
    moved = ((places - middle) / 2 + middle).round()
    moved = moved.clamp((middle - reach).ceil(), (middle + reach).floor())
    return torch.cat([sample[:, :1], moved.int()], dim=1).unique(dim=0)
