"""Places on a cubic grid as one int64 each, in C order: sorted keys stand in for a dense grid."""

import torch
from torch import Tensor

from sam3d_objects.model.flexicubes.tables import tables_on


def linear_keys(places: Tensor, side: int) -> Tensor:
    """(..., 3) integers in 0..side-1 -> (...) int64, (x side + y) side + z."""
    x, y, z = places.to(torch.int64).unbind(-1)
    return (x * side + y) * side + z


def places_of(keys: Tensor, side: int) -> Tensor:
    """(...) keys -> (..., 3) int64, the inverse of `linear_keys`."""
    return torch.stack([keys // (side * side), keys // side % side, keys % side], dim=-1)


def within(places: Tensor, side: int) -> Tensor:
    """(..., 3) integers -> (...) bool: whether all three are in 0..side-1."""
    return ((places >= 0) & (places < side)).all(dim=-1)


def find(known: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Where each wanted key stands among the known ones.

    Args:
        known: (n,) int64, ascending.
        wanted: (...) int64.

    Returns:
        (...) int64, the index; meaningless, but in range, where the key is not there. (...) bool, whether it is there.
    """
    if known.shape[0] == 0:
        return torch.zeros_like(wanted), torch.zeros_like(wanted, dtype=torch.bool)
    index = torch.searchsorted(known, wanted).clamp_(max=known.shape[0] - 1)
    return index, known[index] == wanted


def corner_offsets(resolution: int, device: torch.device) -> Tensor:
    """(8,) int64: what to add to a cube's own key on the (R+1)^3 grid of vertices for the key of each corner."""
    return linear_keys(tables_on(device).corners, resolution + 1)


def corner_keys(cubes: Tensor, resolution: int) -> Tensor:
    """Keys (N, 8) on the (R+1)^3 grid of vertices, of the corners of cubes (N, 3) on the R^3 grid."""
    return linear_keys(cubes, resolution + 1)[:, None] + corner_offsets(resolution, cubes.device)


def corner_union(cubes: Tensor, resolution: int) -> Tensor:
    """The ascending, unique keys (A,) of all corners of cubes (N, 3), without a table of 8 N keys.

    Stretched by one along each axis in turn; most of what doubles falls together again.
    """
    keys = linear_keys(cubes, resolution + 1)
    for stride in ((resolution + 1) ** 2, resolution + 1, 1):
        keys = torch.unique_consecutive(torch.sort(torch.cat([keys, keys + stride])).values)
    return keys
