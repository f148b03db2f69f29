"""Faces: each crossed edge with four cubes around it gives a quad of their dual vertices.

Letters: P grid vertices, L crossings, V dual vertices, Q quads.
"""

import torch
from torch import Tensor

from sam3d_objects.model.flexicubes.dual import Crossings

_EPSILON = 1e-8  # keeps the quad's centre defined (the released value)


def quads(crossings: Crossings, inside: Tensor) -> Tensor:
    """Quads (Q, 4) int64 of dual vertices that wind outward, in the order of their edges.

    Args:
        crossings: of cubes in C order, so that an edge's four dual vertices come in that order too.
        inside: (P,) bool.
    """
    one, two = crossings.ends.unbind(1)
    keys, order = torch.sort(torch.minimum(one, two) * len(inside) + torch.maximum(one, two), stable=True)
    # No edge has more than four cubes: four equal keys in a row are one quad.
    start = torch.nonzero(keys[3:] == keys[:-3]).squeeze(1)
    around = crossings.dual[order[start[:, None] + torch.arange(4, device=start.device)]]
    starts_inside = inside[crossings.ends[order[start], 0]]
    outward, inward = around[:, [0, 1, 3, 2]], around[:, [2, 3, 1, 0]]
    return torch.where(starts_inside[:, None], inward, outward)


def split_quads(corners: Tensor, gamma: Tensor) -> Tensor:
    """Two triangles (2 Q, 3) for each quad (Q, 4), along the diagonal with the larger product of gamma (V,)."""
    first, second = _diagonals(corners, gamma)
    along_first, along_second = corners[:, [0, 1, 2, 0, 2, 3]], corners[:, [0, 1, 3, 3, 1, 2]]
    return torch.where((first > second)[:, None], along_first, along_second).reshape(-1, 3)


def fan_quads(corners: Tensor, vertex_count: int) -> Tensor:
    """Four triangles (4 Q, 3) around the centre of each quad (Q, 4); centre i is vertex `vertex_count` + i."""
    centre = torch.arange(len(corners), device=corners.device)[:, None] + vertex_count
    return torch.stack([corners, corners.roll(-1, dims=1), centre.expand(-1, 4)], dim=-1).reshape(-1, 3)


def quad_centres(values: Tensor, corners: Tensor, gamma: Tensor) -> Tensor:
    """Centre (Q, c) of each quad (Q, 4) of values (V, c): its diagonals' middles, weighted by products of gamma (V,).

    Differentiable in gamma, which is how the choice of the diagonal is learnt.
    """
    first, second = (product[:, None] for product in _diagonals(corners, gamma))
    v = values[corners]  # (Q, 4, c)
    middle = first * (v[:, 0] + v[:, 2]) / 2 + second * (v[:, 1] + v[:, 3]) / 2
    return middle / (first + second + _EPSILON)


def _diagonals(corners: Tensor, gamma: Tensor) -> tuple[Tensor, Tensor]:
    around = gamma[corners]
    return around[:, 0] * around[:, 2], around[:, 1] * around[:, 3]
