"""Points on a triangle surface, differentiable in its vertices.

Letters: V vertices, F faces, N points.
"""

import torch
from torch import Tensor


def sample_surface(vertices: Tensor, faces: Tensor, uniforms: Tensor) -> Tensor:
    """Points (N, 3) spread uniformly over the area of a mesh, as `mesh.sample_surface` has them for geometry.

    The first number of a row chooses a triangle by area, the other two a place in it (Osada et al., "Shape
    distributions", ACM TOG 21(4), 2002): (1 - r) a + r (1 - u) b + r u c with r the root of the second number. The
    gradient holds triangle and place fixed: it moves a point with its triangle's corners.

    Args:
        vertices: (V, 3) float.
        faces: (F, 3) int64.
        uniforms: (N, 3) in [0, 1), on the vertices' device.

    Raises:
        ValueError: the mesh has no area (no face, for one), or one that is not finite.
    """
    corners = vertices[faces]  # (F, 3, 3)
    chosen = _chosen_faces(corners.detach(), uniforms[:, 0])
    root, along = uniforms[:, 1].to(vertices).sqrt(), uniforms[:, 2].to(vertices)
    weights = torch.stack([1 - root, root * (1 - along), root * along], dim=1)  # (N, 3)
    return (corners[chosen] * weights[:, :, None]).sum(dim=1)


def _chosen_faces(corners: Tensor, uniforms: Tensor) -> Tensor:
    """Choose a triangle of corners (F, 3, 3) by its area for each of the numbers (N,): int64 (N,)."""
    sides = corners[:, 1:] - corners[:, :1]
    areas = torch.linalg.vector_norm(torch.linalg.cross(sides[:, 0], sides[:, 1]), dim=1) / 2
    # Summed in float64, which not every device has: a float32 sum over 10^5 faces is off by a part of a face, so that
    # a rounding error in the vertices would choose other triangles.
    total = areas.cpu().double().cumsum(0)
    if not len(total) or not 0 < float(total[-1]) < float("inf"):
        area = float(total[-1]) if len(total) else 0.0
        raise ValueError(f"a mesh of {len(corners)} faces with area {area:g} has no points to sample")
    chosen = torch.searchsorted(total, uniforms.cpu().double() * total[-1], right=True)
    # Rounding may step past the last face with an area.
    return torch.minimum(chosen, torch.searchsorted(total, total[-1])).to(corners.device)
