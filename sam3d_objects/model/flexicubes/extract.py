"""FlexiCubes: the zero surface of a scalar field on cubes, differentiable in field, positions, weights, attributes.

Letters: P grid vertices, M cubes, S surface cubes, V dual vertices, L crossings, Q quads, A attributes.
"""

import torch
from torch import Tensor

from sam3d_objects.model.flexicubes.cases import surface_cases
from sam3d_objects.model.flexicubes.dual import Crossings, between, find_crossings, group_mean, zero_weight
from sam3d_objects.model.flexicubes.faces import fan_quads, quad_centres, quads, split_quads
from sam3d_objects.model.flexicubes.surface import Surface

# Raw weights are squashed as in the release: alpha and beta into (0.01, 1.99), gamma into (0.005, 0.995).
_SQUASH = 0.99
_GAMMA_LEAST = 0.005
_GAMMA_DEFAULT = 0.5


def extract_surface(
    positions: Tensor,
    scalars: Tensor,
    cubes: Tensor,
    coordinates: Tensor,
    resolution: int,
    beta: Tensor | None = None,
    alpha: Tensor | None = None,
    gamma: Tensor | None = None,
    attributes: Tensor | None = None,
    training: bool = False,
) -> Surface:
    """Extract the surface between inside (scalar < 0) and outside.

    Args:
        positions: (P, 3) float, where the grid's vertices are.
        scalars: (P,) float; 0 counts as outside.
        cubes: (M, 8) int64, vertices in the order of the corners. Any subset of the grid: a quad appears where all
            four cubes around an edge are given.
        coordinates: (M, 3) int64 in 0..R-1, sorted lexicographically, unique.
        resolution: R, cubes along a side of the grid.
        beta: (M, 12) raw weights of the edges; None stands for 0 here and below.
        alpha: (M, 8) raw weights of the corners.
        gamma: (M,) raw weights of the diagonals.
        attributes: (P, A) logits, which pass a sigmoid and are interpolated like positions.
        training: makes four triangles of a quad and fills `deviation`.
    """
    inside = scalars.detach() < 0
    rows, cases = surface_cases(inside, cubes, coordinates, resolution)
    crossings = find_crossings(cubes[rows], cases)
    weight = _crossing_weight(scalars, None if alpha is None else alpha[rows], crossings)
    edge_beta = None if beta is None else _squash(beta[rows[crossings.cube], crossings.edge])[:, None]
    vertices = group_mean(between(positions, crossings.ends, weight), crossings, edge_beta)
    colours = None
    if attributes is not None:
        colours = group_mean(_attributes_between(attributes, crossings, weight), crossings, edge_beta)
    dual_gamma = _dual_gamma(None if gamma is None else gamma[rows], crossings, vertices)
    corners = quads(crossings, inside)
    if not training:
        return Surface(vertices, split_quads(corners, dual_gamma), colours)
    deviation = _deviation(positions, scalars, vertices, crossings)
    faces = fan_quads(corners, len(vertices))
    if colours is not None:
        colours = torch.cat([colours, quad_centres(colours, corners, dual_gamma)])
    vertices = torch.cat([vertices, quad_centres(vertices, corners, dual_gamma)])
    return Surface(vertices, faces, colours, deviation)


def _squash(raw: Tensor) -> Tensor:
    return torch.tanh(raw) * _SQUASH + 1


def _crossing_weight(scalars: Tensor, alpha: Tensor | None, crossings: Crossings) -> Tensor:
    """(L, 1): where the scalars, scaled by their corners' alpha (S, 8), cross zero."""
    values = scalars[crossings.ends]
    if alpha is not None:
        values = values * _squash(alpha[crossings.cube[:, None], crossings.corners])
    return zero_weight(values)


def _attributes_between(attributes: Tensor, crossings: Crossings, weight: Tensor) -> Tensor:
    start, stop = (torch.sigmoid(attributes[ends]) for ends in crossings.ends.unbind(1))
    return torch.lerp(start, stop, weight)


def _dual_gamma(gamma: Tensor | None, crossings: Crossings, vertices: Tensor) -> Tensor:
    if gamma is None:
        return vertices.new_full((len(vertices),), _GAMMA_DEFAULT)
    return (torch.sigmoid(gamma) * _SQUASH + _GAMMA_LEAST)[crossings.dual_cube]


def _deviation(positions: Tensor, scalars: Tensor, vertices: Tensor, crossings: Crossings) -> Tensor:
    """(L,): distance of each crossing (without alpha) to its dual vertex, against the mean over that vertex."""
    crossing = between(positions, crossings.ends, zero_weight(scalars[crossings.ends]))
    distance = torch.linalg.vector_norm(crossing - vertices[crossings.dual], dim=1, keepdim=True)
    return (distance - group_mean(distance, crossings)[crossings.dual]).abs().squeeze(1)
