"""Grids, and surfaces compared as sets of triangles, that the tests of this folder share."""

import torch
from torch import Tensor

from sam3d_objects.model.flexicubes.corners import vertex_positions
from sam3d_objects.model.flexicubes.keys import corner_keys, places_of


def cube_places(resolution: int) -> Tensor:
    """(R^3, 3) every cube of a grid in C order."""
    return places_of(torch.arange(resolution**3), resolution)


def dense_cubes(resolution: int) -> Tensor:
    """(R^3, 8) the vertices of every cube of a grid."""
    return corner_keys(cube_places(resolution), resolution)


def dense_positions(resolution: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """((R+1)^3, 3) where the vertices of a grid over [-0.5, 0.5]^3 are."""
    vertices = places_of(torch.arange((resolution + 1) ** 3), resolution + 1)
    return vertex_positions(vertices, torch.zeros(len(vertices), 3, dtype=dtype), resolution)


def shell(resolution: int, radius: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Features (N, 101) float64 and cubes (N, 3), shuffled, of a noisy sphere; cubes beyond half a radius away lack."""
    places = cube_places(resolution)
    corners = places_of(corner_keys(places, resolution), resolution + 1)
    distance = (corners.double() / resolution - 0.5).norm(dim=2) - radius
    places, distance = places[near := distance.abs().amin(dim=1) < radius / 2], distance[near]
    order = torch.randperm(len(places), generator=generator)
    features = torch.randn(len(places), 101, generator=generator, dtype=torch.float64)
    features[:, :8] = distance[order] + 0.02 * features[:, :8]
    return features, places[order]


def triangle_set(faces: Tensor) -> set[tuple[int, ...]]:
    """Faces (F, 3) as a set, each beginning at its smallest vertex; the winding is kept."""
    turn = (faces.argmin(dim=1, keepdim=True) + torch.arange(3)) % 3
    return set(map(tuple, faces.gather(1, turn).tolist()))


def matched(found_vertices: Tensor, found_faces: Tensor, vertices: Tensor, faces: Tensor) -> Tensor:
    """Check that the triangles are the expected ones over matched vertices; returns the match (V,)."""
    assert len(found_vertices) == len(vertices)
    match = torch.cdist(found_vertices.double(), vertices.double()).argmin(dim=1)
    assert len(match.unique()) == len(vertices)
    assert len(found_faces) == len(faces)
    assert triangle_set(match[found_faces]) == triangle_set(faces.to(torch.int64))
    return match
