"""The voxels that get latents, and what they enclose, from a solid's grids: in training as at inference.

Letters: R side of the latents' grid, N voxels.
"""

import torch
from torch import Tensor, nn

from sam3d_objects.arrays import AnyArray
from sam3d_objects.model.structure.voxels import crossed_coordinates, enclosed, occupied_coordinates


def latent_voxels(shares: AnyArray, touched: AnyArray, occupancy: str) -> tuple[Tensor, Tensor]:
    """Return the surface's voxels, int32 (N, 4), and which voxels (1, R, R, R), bool, are wholly inside.

    Args:
        shares: (R, R, R) in [0, 1], how much of each voxel is inside.
        touched: (R, R, R), 1 where the surface touches the voxel.
        occupancy: `solid` takes the voxels that the level 1/2 of the solid's shares passes, as the tiny model was
            trained on, and where the solid is too thin to have one those that the surface touches; `surface` takes
            all that the surface touches, as in the release.
    """
    solid = torch.as_tensor(shares, dtype=torch.float32)[None, None]
    shell = torch.as_tensor(touched, dtype=torch.float32)[None, None]
    coordinates = occupied_coordinates(solid_shell(solid, shell) if occupancy == "solid" else shell)
    return coordinates, enclosed(solid > 0.5, coordinates)


def solid_shell(shares: Tensor, touched: Tensor) -> Tensor:
    """The voxels of a solid's surface: those that level 1/2 passes, and touched ones away from any that are solid.

    Args:
        shares: (1, 1, R, R, R) of each voxel inside; touched: the same shape, 1 where the surface is.

    Returns:
        (1, 1, R, R, R), 1 or 0.
    """
    shell = torch.zeros_like(shares)
    batch, x, y, z = crossed_coordinates(shares).long().unbind(1)
    shell[batch, 0, x, y, z] = 1
    solid = torch.maximum(shell, (shares > 0.5).float())
    near = nn.functional.max_pool3d(solid, 3, stride=1, padding=1)
    return torch.maximum(shell, touched * (1 - near))
