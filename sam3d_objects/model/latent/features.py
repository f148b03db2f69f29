"""What a latent encoder of the kind `signed_distance` takes: distances to the surface at 27 points of each voxel.

The points of a voxel are its corners, the middles of its edges and faces, and its centre, in C order. Letters: N
voxels, R grid side.
"""

import torch
from torch import Tensor

POINTS_A_SIDE = 3
FEATURES = POINTS_A_SIDE**3


def voxel_points(coordinates: Tensor, resolution: int) -> Tensor:
    """Return the points (N, 27, 3), float32, of voxels (N, 3) of the R^3 grid over the object's cube [-0.5, 0.5]^3."""
    steps = torch.arange(POINTS_A_SIDE, device=coordinates.device) / (POINTS_A_SIDE - 1)
    within = torch.cartesian_prod(steps, steps, steps)
    return (coordinates[:, None].float() + within) / resolution - 0.5


def distance_features(distances: Tensor, resolution: int) -> Tensor:
    """Turn signed distances (N, 27), negative inside, the cube's side being 1, into features in [-1, 1]."""
    return (distances * resolution).clamp(-1.0, 1.0)
