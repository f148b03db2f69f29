"""Chamfer distance between two point sets, differentiable in both, in bounded memory on any device.

Letters: N, M points of the two sets.
"""

import torch
from torch import Tensor

MAX_PAIRS = 2**24  # distances looked at together: 64 MB in float32


def chamfer_distance(first: Tensor, second: Tensor, squared: bool = True, max_pairs: int = MAX_PAIRS) -> Tensor:
    """Mean distance to the nearest point of the other set, the sum of both directions: a scalar.

    mean_i min_j |x_i - y_j|^p + mean_j min_i |x_i - y_j|^p with p = 2, or 1 where not `squared` (Fan et al. 2017,
    "A Point Set Generation Network", eq. 1, as means). Squared, the gradient across a surface does not depend on how
    densely it was sampled; not squared, it fades with the distance between samples.

    Which point is nearest is found block by block without a graph, so that memory does not grow with N M; the distances
    to those alone are differentiated, which is the whole gradient wherever there is one. At distance 0 it is 0.

    Args:
        first: x (N, 3) float; second: y (M, 3) float, of the same dtype and device.
        squared: p = 2.
        max_pairs: bound on the pairs that are looked at together.

    Raises:
        ValueError: a set is empty, or the shapes are others.
    """
    return one_sided(first, second, squared, max_pairs) + one_sided(second, first, squared, max_pairs)


def one_sided(points: Tensor, others: Tensor, squared: bool, max_pairs: int) -> Tensor:
    """Mean over points (N, 3) of the (squared) distance to the nearest of the others (M, 3): a scalar."""
    offset = points - others[nearest_index(points, others, max_pairs)]
    distance = offset.square().sum(dim=1) if squared else torch.linalg.vector_norm(offset, dim=1)
    return distance.mean()


@torch.no_grad()
def nearest_index(points: Tensor, others: Tensor, max_pairs: int = MAX_PAIRS) -> Tensor:
    """Return for each of points (N, 3) which of the others (M, 3) is nearest, int64 (N,); the first of equals.

    Raises:
        ValueError: as `chamfer_distance`.
    """
    for which in (points, others):
        if which.ndim != 2 or which.shape[1] != 3 or not len(which):
            raise ValueError(f"expected points (N, 3), N at least 1, got {tuple(which.shape)}")
    rows = max(1, max_pairs // len(others))
    # Differences, not |x|^2 - 2 x y + |y|^2: near points of a surface are told apart by less than that cancels.
    mode = "donot_use_mm_for_euclid_dist"
    return torch.cat([torch.cdist(part, others, compute_mode=mode).argmin(dim=1) for part in points.split(rows)])
