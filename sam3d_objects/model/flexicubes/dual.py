"""Dual vertices: each group of a cube's crossed edges makes one.

Letters: P grid vertices, S surface cubes, V dual vertices, L crossings = pairs of a dual vertex and an edge.
Formulas: Shen et al., "Flexible Isosurface Extraction for Gradient-Based Mesh Optimization", 2023.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from sam3d_objects.model.flexicubes.tables import tables_on


@dataclass(frozen=True, eq=False)
class Crossings:
    """Every crossed edge of every surface cube, ordered by dual vertex; all int64.

    Dual vertices are in the order of their cubes, and then of the table's groups.

    Args:
        dual: (L,) the dual vertex.
        cube: (L,) the row of its cube among the surface cubes.
        edge: (L,) the edge's number, 0..11.
        corners: (L, 2) the edge's ends as corners of the cube, 0..7.
        ends: (L, 2) the edge's ends as grid vertices.
        counts: (V,) crossings of each dual vertex, 3..7.
        dual_cube: (V,) the row of each dual vertex's cube.
    """

    dual: Tensor
    cube: Tensor
    edge: Tensor
    corners: Tensor
    ends: Tensor
    counts: Tensor
    dual_cube: Tensor


def find_crossings(cubes: Tensor, cases: Tensor) -> Crossings:
    """List the crossings of surface cubes (S, 8) int64 with their settled cases (S,)."""
    tables = tables_on(cubes.device)
    group_counts = tables.group_counts[cases]
    dual_cube = torch.repeat_interleave(group_counts)
    first = torch.cumsum(group_counts, 0) - group_counts
    group = torch.arange(len(dual_cube), device=cubes.device) - first[dual_cube]
    edges = tables.groups[cases[dual_cube], group]  # (V, 7), -1 where there is none
    crossed = edges >= 0
    dual = torch.nonzero(crossed)[:, 0]
    edge = edges[crossed]
    cube = dual_cube[dual]
    corners = tables.edges[edge]
    return Crossings(dual, cube, edge, corners, cubes[cube[:, None], corners], crossed.sum(dim=1), dual_cube)


def zero_weight(values: Tensor) -> Tensor:
    """Where a linear function with end values (L, 2) of opposite sign is zero: (L, 1), 0 at the first end."""
    return values[:, :1] / (values[:, :1] - values[:, 1:])


def between(values: Tensor, ends: Tensor, weight: Tensor) -> Tensor:
    """Interpolate grid values (P, c) along edges (L, 2) at weights (L, 1): (L, c)."""
    return torch.lerp(values[ends[:, 0]], values[ends[:, 1]], weight)


def group_mean(values: Tensor, crossings: Crossings, weights: Tensor | None = None) -> Tensor:
    """Mean of values (L, c) over the crossings of each dual vertex (V, c), weighted by (L, 1) above 0 if given."""
    count = len(crossings.counts)
    if weights is None:
        return _group_sum(values, crossings.dual, count) / crossings.counts[:, None]
    return _group_sum(values * weights, crossings.dual, count) / _group_sum(weights, crossings.dual, count)


def _group_sum(values: Tensor, dual: Tensor, count: int) -> Tensor:
    return values.new_zeros(count, values.shape[1]).index_add(0, dual, values)
