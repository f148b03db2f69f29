"""The terms of the decoder stage for one shape: from the features of its fine cubes to weighted scalars.

Letters: M fine cubes, R fine cubes along a side, A corners, P points on each surface, C corners that are asked.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from sam3d_objects.mesh import Mesh, signed_distance
from sam3d_objects.model.flexicubes import corner_values, surface_from_features
from sam3d_objects.training.losses import (
    chamfer_distance,
    clamped_sdf_loss,
    edge_length,
    laplacian,
    normal_consistency,
    sample_surface,
    sign_loss,
)

SIGN, CHAMFER, REGULARISER, SDF = "sign", "chamfer", "regulariser", "sdf"
EDGES, LAPLACIAN, NORMALS = "edges", "laplacian", "normals"
DECODER_WEIGHTS: Mapping[str, float] = {
    SIGN: 1.0,
    CHAMFER: 0.1,
    REGULARISER: 0.01,
    SDF: 0.0,
    EDGES: 0.0,
    LAPLACIAN: 0.0,
    NORMALS: 0.0,
}
_OF_FACES = {EDGES: edge_length, LAPLACIAN: laplacian, NORMALS: normal_consistency}


@dataclass(frozen=True, eq=False)
class CubeFeatures:
    """What the decoder made of one shape.

    Attributes:
        features: (M, 53) or (M, 101) float, with a graph.
        cubes: (M, 3) integers in 0..R-1.
        resolution: R.
        interior: (r, r, r) bool, voxels without cubes that the shape's shell encloses; r divides R.
    """

    features: Tensor
    cubes: Tensor
    resolution: int
    interior: Tensor


@dataclass(frozen=True, eq=False)
class TermDraws:
    """Uniform numbers in [0, 1): which corners are asked (C,); points on the found and the true surface (P, 3)."""

    corners: Tensor
    found: Tensor
    true: Tensor


def decoder_terms(
    made: CubeFeatures, true: Mesh, draws: TermDraws, weights: Mapping[str, float], scale: float
) -> dict[str, Tensor]:
    """Return each term whose weight is not 0, times its weight; lengths are in fine cubes.

    Args:
        made: by the decoder.
        true: the shape, closed, in object coordinates.
        draws: on the device of `made`.
        scale: of the decoder's scalars, a cube's worth.
    """
    if not bool(torch.isfinite(made.features).all()):
        # There is no surface to be made of them. The loop stops at such a loss and names the shape.
        return {name: made.features.sum() for name, weight in weights.items() if weight}
    terms: dict[str, Tensor] = {}
    if weights[SIGN] or weights[SDF]:
        scalars, distances = asked_corners(made, true, draws.corners)
        if weights[SIGN]:
            terms[SIGN] = sign_loss(scalars, distances, scale)
        if weights[SDF]:
            terms[SDF] = clamped_sdf_loss(scalars, distances, scale)
    if any(weights[name] for name in (CHAMFER, REGULARISER, *_OF_FACES)):
        terms |= _surface_terms(made, true, draws, weights)
    return {name: weights[name] * term for name, term in terms.items() if weights[name]}


def asked_corners(made: CubeFeatures, true: Mesh, uniforms: Tensor) -> tuple[Tensor, Tensor]:
    """Return some corners' scalars (C,), with a graph, and the true signed distance there (C,), in cubes, without one.

    At the deformed corners: that is where the extraction places the scalar. The distances are exact, which costs some
    microseconds a corner on the CPU, so that some of the corners are asked in each step and not all of them.
    """
    corners = corner_values(made.features, made.cubes, made.resolution)
    count = len(corners.keys)
    chosen = (uniforms * count).long().clamp(max=count - 1)
    places = corners.positions[chosen].detach().double().cpu().numpy()
    distances = torch.from_numpy(signed_distance(true, places) * made.resolution)
    return corners.sdf[chosen], distances.to(corners.sdf)


def _surface_terms(made: CubeFeatures, true: Mesh, draws: TermDraws, weights: Mapping[str, float]) -> dict[str, Tensor]:
    known = made.interior
    surface, regulariser = surface_from_features(made.features, made.cubes, made.resolution, True, known)
    assert regulariser is not None
    vertices, faces = surface.vertices * made.resolution, surface.faces
    terms = {REGULARISER: regulariser}
    terms |= {name: term(vertices, faces) for name, term in _OF_FACES.items() if weights[name]}
    if weights[CHAMFER]:
        # Where nothing crosses zero there is no surface to draw nearer; the sign brings one.
        terms[CHAMFER] = vertices.sum()
        if len(faces):
            wanted = true_points(true, draws.true) * made.resolution
            terms[CHAMFER] = chamfer_distance(sample_surface(vertices, faces, draws.found), wanted)
    return terms


def true_points(true: Mesh, uniforms: Tensor) -> Tensor:
    """Return points (P, 3), float32 on the device of the numbers, on a shape in object coordinates."""
    points = sample_surface(torch.from_numpy(true.vertices), torch.from_numpy(true.faces), uniforms.cpu())
    return points.to(uniforms)
