"""Coordinates of packed voxels: int32 (N, 4) rows of sample, x, y, z, the samples one after another.

Letters: N voxels over the whole batch, B samples, R grid resolution.
"""

import os

import torch
from torch import Tensor

DEBUG_VARIABLE = "SAM3D_DEBUG"
LIMIT = 2**15  # of a coordinate: three of them and 2^15 samples fit the int64 key of `linear_keys`


def debug_mode() -> bool:
    """Whether the environment variable SAM3D_DEBUG is set (to anything but an empty string or 0)."""
    return os.environ.get(DEBUG_VARIABLE, "0") not in ("", "0")


def linear_keys(coordinates: Tensor, extent: tuple[int, int, int]) -> Tensor:
    """Number voxels (N, 4) in a box of `extent` voxels a sample: int64 (N,), ordered as (sample, x, y, z) is."""
    sample, x, y, z = coordinates.long().unbind(1)
    return ((sample * extent[0] + x) * extent[1] + y) * extent[2] + z


def coordinates_of(keys: Tensor, extent: tuple[int, int, int]) -> Tensor:
    """The inverse of `linear_keys`: int32 (N, 4)."""
    rest, z = keys // extent[2], keys % extent[2]
    rest, y = rest // extent[1], rest % extent[1]
    return torch.stack([rest // extent[0], rest % extent[0], y, z], dim=1).int()


def check_coordinates(coordinates: Tensor, batch: int, resolution: int | None = None) -> None:
    """Check that coordinates are int32 (N, 4), inside, grouped by sample, and each voxel there once.

    `resolution` bounds x, y, z from above; without it only what the library can number at all is asked for.

    Raises:
        ValueError: otherwise; the message names the first row at fault, what it holds and what was expected.
    """
    if coordinates.ndim != 2 or coordinates.shape[1] != 4 or coordinates.dtype != torch.int32:
        raise ValueError(
            "voxel coordinates must be int32 of shape (N, 4) = sample, x, y, z; "
            f"got {coordinates.dtype} of shape {tuple(coordinates.shape)}"
        )
    if not len(coordinates):
        return
    sample, limit = coordinates[:, 0], LIMIT if resolution is None else resolution
    _refuse(coordinates, (sample < 0) | (sample >= batch), f"sample must be from 0 to {batch - 1}")
    place = coordinates[:, 1:]
    _refuse(coordinates, ((place < 0) | (place >= limit)).any(1), f"x, y, z must be from 0 to {limit - 1}")
    back = torch.zeros_like(sample, dtype=torch.bool)
    back[1:] = sample[1:] < sample[:-1]
    _refuse(coordinates, back, "voxels must be grouped by sample, sample 0 first, but this one follows a later sample")
    keys, order = linear_keys(coordinates, (limit, limit, limit)).sort(stable=True)
    again = torch.zeros_like(back)
    again[order[1:]] = keys[1:] == keys[:-1]
    _refuse(coordinates, again, "each voxel must be there once, but this one repeats an earlier row")


def _refuse(coordinates: Tensor, wrong: Tensor, expected: str) -> None:
    if wrong.any():
        row = int(wrong.nonzero()[0])
        raise ValueError(
            f"voxel coordinates, row {row} of {len(coordinates)} is {coordinates[row].tolist()}: {expected}"
        )
