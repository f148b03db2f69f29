"""The tables of dual marching cubes as FlexiCubes uses them (Shen et al. 2023), read once for each device."""

import functools
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

TABLES_FILE = Path(__file__).parent.parent.parent / "assets" / "flexicubes.json"


@dataclass(frozen=True, eq=False)
class Tables:
    """Numbers of corners and edges, and what each of the 256 cases makes of a cube; all int64.

    A case is the sum of 2^corner over the corners inside. -1 fills rows up.

    Args:
        corners: (8, 3) offset of each corner, 0 or 1.
        edges: (12, 2) corners of each edge; x and z edges run low to high, y edges high to low.
        groups: (256, 4, 7) edges of each dual vertex.
        group_counts: (256,) dual vertices of a cube.
        checks: (256, 5) = flag, dx, dy, dz, other case: an ambiguous case and the neighbour that decides it.
    """

    corners: Tensor
    edges: Tensor
    groups: Tensor
    group_counts: Tensor
    checks: Tensor


@functools.cache
def tables_on(device: torch.device) -> Tables:
    """The tables on a device."""
    content = json.loads(TABLES_FILE.read_text(encoding="utf-8"))
    names = ("cube_corners", "cube_edges", "dmc_table", "num_vd_table", "check_table")
    return Tables(*(torch.tensor(content[name], dtype=torch.int64, device=device) for name in names))
