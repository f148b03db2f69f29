"""Which cubes the surface passes, and the case of each.

Letters: M cubes, P grid vertices, S surface cubes.
"""

import torch
from torch import Tensor

from sam3d_objects.model.flexicubes.keys import find, linear_keys, within
from sam3d_objects.model.flexicubes.tables import tables_on


def surface_cases(inside: Tensor, cubes: Tensor, coordinates: Tensor, resolution: int) -> tuple[Tensor, Tensor]:
    """Cubes with corners on both sides, and their cases with ambiguous neighbours settled.

    Args:
        inside: (P,) bool.
        cubes: (M, 8) int64, vertices in the order of the corners.
        coordinates: (M, 3) int64, sorted lexicographically.
        resolution: R, cubes along a side of the grid.

    Returns:
        rows (S,) int64 ascending, and cases (S,) int64.
    """
    corner_inside = inside[cubes]
    rows = torch.nonzero(corner_inside.any(dim=1) & ~corner_inside.all(dim=1)).squeeze(1)
    bits = 2 ** torch.arange(8, device=cubes.device)
    cases = (corner_inside[rows] * bits).sum(dim=1)
    return rows, _settled(cases, coordinates[rows], resolution)


def _settled(cases: Tensor, places: Tensor, resolution: int) -> Tensor:
    """Replace a flagged case (S,) where the neighbour that its row of the table names is flagged as well.

    All are decided on the original cases. A neighbour that is no surface cube has no flag.
    """
    checks = tables_on(cases.device).checks[cases]
    flagged = torch.nonzero(checks[:, 0] == 1).squeeze(1)
    neighbours = places[flagged] + checks[flagged, 1:4]
    keys = linear_keys(places[flagged], resolution)
    _, also_flagged = find(keys, linear_keys(neighbours, resolution))
    changed = also_flagged & within(neighbours, resolution)
    settled = cases.clone()
    settled[flagged] = torch.where(changed, checks[flagged, 4], cases[flagged])
    return settled
