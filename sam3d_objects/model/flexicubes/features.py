"""From the mesh decoder's features to a surface, visiting only what the surface can touch.

A vertex that no active cube touches is outside (sdf 1), so every surface cube is an active cube or one of its 26
neighbours. Of those, only cubes with corners on both sides matter to FlexiCubes, and they are found directly, as the
cubes around the inside vertices next to an outside one. The result is that of the dense grid.

Letters: N active cubes, A active vertices, S surface cubes, P their vertices, R cubes along a side of the grid.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from sam3d_objects.model.flexicubes.corners import CornerValues, corner_values, vertex_positions
from sam3d_objects.model.flexicubes.extract import extract_surface
from sam3d_objects.model.flexicubes.interior import Interior
from sam3d_objects.model.flexicubes.keys import (
    corner_keys,
    corner_offsets,
    corner_union,
    find,
    linear_keys,
    places_of,
    within,
)
from sam3d_objects.model.flexicubes.layout import ALPHA, BETA, GAMMA
from sam3d_objects.model.flexicubes.surface import Surface

_OUTSIDE = 1.0  # sdf of a vertex that no active cube touches
DEVIATION_WEIGHT = 0.5
WEIGHT_DECAY = 0.2


def surface_from_features(
    features: Tensor,
    coordinates: Tensor,
    resolution: int,
    training: bool = False,
    interior: Tensor | None = None,
) -> tuple[Surface, Tensor | None]:
    """Extract the surface of one sample.

    Args:
        features: (N, 101), or (N, 53) without colour.
        coordinates: (N, 3) integers in 0..R-1, in any order, unique.
        resolution: R, 4 x the latent resolution (256 for the release).
        training: for a surface with quads in four triangles, and the regulariser.
        interior: (r, r, r) bool, voxels without features that are known to be inside; r divides R. The release knows
            none.

    Returns:
        the surface in [-0.5, 0.5]^3, without faces where nothing is inside; in training the regulariser, a scalar:
        0.5 x mean deviation + mean squared disagreement of corners + 0.2 x mean |beta, alpha|. Else None.

    Raises:
        ValueError: as `corner_values`.
    """
    corners = corner_values(features, coordinates, resolution, with_disagreement=training)
    grid = _surface_grid(corners, coordinates, None if interior is None else Interior(interior, resolution))
    beta, alpha, gamma = grid.weights.split([BETA, ALPHA, GAMMA], dim=1)
    surface = extract_surface(
        grid.positions,
        grid.sdf,
        grid.cubes,
        grid.places,
        resolution,
        beta,
        alpha,
        gamma.squeeze(1),
        grid.colour,
        training,
    )
    return surface, _regulariser(surface, corners) if training else None


@dataclass(frozen=True, eq=False)
class _SurfaceGrid:
    """What extraction needs: places (S, 3), cubes (S, 8), raw weights (S, 21); positions, sdf, colour of P vertices."""

    places: Tensor
    cubes: Tensor
    weights: Tensor
    positions: Tensor
    sdf: Tensor
    colour: Tensor | None


def _surface_grid(corners: CornerValues, coordinates: Tensor, interior: Interior | None) -> _SurfaceGrid:
    corners = corners if interior is None else interior.fill(corners)
    places = surface_places(corners, interior)
    resolution = corners.resolution
    keys = corner_union(places, resolution)
    cubes, _ = find(keys, corner_keys(places, resolution))
    vertex, known = find(corners.keys, keys)
    deform = _rows(corners.deform, vertex, known, 0.0)
    active, order = torch.sort(linear_keys(coordinates, resolution))
    cube, is_active = find(active, linear_keys(places, resolution))
    return _SurfaceGrid(
        places,
        cubes,
        _rows(corners.weights, order[cube], is_active, 0.0),
        vertex_positions(places_of(keys, resolution + 1), deform, resolution),
        _rows(corners.sdf, vertex, known, _OUTSIDE),
        None if corners.colour is None else _rows(corners.colour, vertex, known, 0.0),
    )


def _rows(values: Tensor, index: Tensor, known: Tensor, default: float) -> Tensor:
    """Rows of values where known, else the default."""
    known = known if values.dim() == 1 else known[:, None]
    return torch.where(known, values[index], default)


def surface_places(corners: CornerValues, interior: Interior | None = None) -> Tensor:
    """(S, 3) int64 in C order: every cube of the grid with corners on both sides."""
    side = corners.resolution + 1
    inside = corners.keys[corners.sdf.detach() < 0]
    at_border = torch.zeros_like(inside, dtype=torch.bool)
    for stride in (side * side, side, 1):
        place = inside // stride % side
        for step, last in ((stride, side - 1), (-stride, 0)):
            _, next_inside = find(inside, inside + step)
            if interior is not None:
                _, listed = find(corners.keys, inside + step)
                next_inside |= ~listed & interior.holds(places_of(inside + step, side))
            at_border |= ~next_inside & (place != last)
    around = inside[at_border][:, None] - corner_offsets(corners.resolution, inside.device)
    # A cube before the grid's first one in an axis wraps to its last vertex there, where no cube begins.
    places = places_of(torch.unique(around), side)
    return places[within(places, corners.resolution)]


def _regulariser(surface: Surface, corners: CornerValues) -> Tensor:
    assert surface.deviation is not None and corners.disagreement is not None
    deviation = surface.deviation.sum() / max(1, len(surface.deviation))
    used = corners.weights[:, : BETA + ALPHA]
    decay = used.abs().sum() / max(1, used.numel())
    return DEVIATION_WEIGHT * deviation + corners.disagreement + WEIGHT_DECAY * decay
