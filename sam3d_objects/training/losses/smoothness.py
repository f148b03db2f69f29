"""Regularisers of a triangle surface: edges, the uniform Laplacian, and how far neighbouring faces turn.

Letters: V vertices, F faces, E edges. Each is a scalar, 0 for a mesh without faces, and differentiable in the vertices.
"""

import torch
from torch import Tensor

_FLAT = 1e-6  # of the mean area: a face below it has no normal to speak of


def edge_length(vertices: Tensor, faces: Tensor) -> Tensor:
    """Mean squared length of the edges, each counted once (Wang et al. 2018, "Pixel2Mesh", sec. 3.4).

    Args:
        vertices: (V, 3) float; faces: (F, 3) int64.
    """
    start, end = _edges(faces, len(vertices)).unbind(1)
    return _mean((vertices[end] - vertices[start]).square().sum(dim=1))


def laplacian(vertices: Tensor, faces: Tensor) -> Tensor:
    """Mean over vertices with neighbours of |mean of the neighbours - vertex|^2 (uniform weights, Taubin 1995).

    Args:
        vertices: (V, 3) float; faces: (F, 3) int64. Vertices that no face uses do not count.
    """
    edges = _edges(faces, len(vertices))
    both = torch.cat([edges, edges.flip(1)])
    total = torch.zeros_like(vertices).index_add(0, both[:, 0], vertices[both[:, 1]])
    degree = torch.bincount(both[:, 0], minlength=len(vertices))
    used = degree > 0
    return _mean((total[used] / degree[used, None] - vertices[used]).square().sum(dim=1))


def normal_consistency(vertices: Tensor, faces: Tensor) -> Tensor:
    """Mean of 1 - cos of the angle between the normals of two faces at an edge: 0 where flat, 2 where folded.

    As PyTorch3D's `mesh_normal_consistency` (Ravi et al. 2020) for consistent winding. Faces without area, and edges
    with a single face, do not count; of more than two faces at an edge each is compared with the next.

    Args:
        vertices: (V, 3) float; faces: (F, 3) int64 with consistent winding.
    """
    corners = vertices[faces]
    cross = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = torch.linalg.vector_norm(cross, dim=1)
    keys, order = torch.sort(_edge_keys(faces, len(vertices)), stable=True)
    owner = order % max(1, len(faces))
    first, second = owner[:-1], owner[1:]
    sized = area.detach() > _FLAT * area.detach().mean()
    counts = (keys[1:] == keys[:-1]) & sized[first] & sized[second]
    first, second = first[counts], second[counts]
    cosine = (cross[first] * cross[second]).sum(dim=1) / (area[first] * area[second])
    return _mean(1 - cosine)


def _edge_keys(faces: Tensor, vertex_count: int) -> Tensor:
    """(3 F,) int64, the same for both directions of an edge; edge k of face f is at k F + f."""
    ends = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    return ends.amin(dim=1) * vertex_count + ends.amax(dim=1)


def _edges(faces: Tensor, vertex_count: int) -> Tensor:
    """(E, 2) int64, each edge once."""
    keys = torch.unique(_edge_keys(faces, vertex_count))
    return torch.stack([keys // max(1, vertex_count), keys % max(1, vertex_count)], dim=1)


def _mean(values: Tensor) -> Tensor:
    """The mean of (n,), 0 (with a graph) where n is 0."""
    return values.sum() / max(1, len(values))
