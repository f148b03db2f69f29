"""The latent stage on a structure: from where the surface is to how it runs.

Letters: R side of the latent's grid, N voxels, S side of the embedder's inputs.
"""

import numpy as np
import torch
from torch import Tensor, nn

from sam3d_objects.mesh import Mesh, ObjectFrame, occupancy_grid, outer_surface
from sam3d_objects.model import SAM3DObjects
from sam3d_objects.model.sparse import SparseGrid
from sam3d_objects.model.structure.voxels import (
    crossed_coordinates,
    enclosed,
    occupied_coordinates,
)


@torch.no_grad()
def refine(model: SAM3DObjects, rough: Mesh, inputs: dict[str, Tensor], seed: int) -> Mesh:
    """Draw latents on the voxels that a rough surface passes and decode them to the detailed surface.

    The voxels come from the rough surface in its own unit box, as training targets do from an organ's, whether it is
    one sample's or the mean of several.

    Args:
        model: with its latent stage.
        rough: the structure's closed surface, patient mm.
        inputs: the slice as the condition embedder takes it, each (c, S, S).

    Returns:
        the outer surface, patient mm.

    Raises:
        ValueError: the model has no latent stage, or the decoder makes no surface.
    """
    stage = model.latent_stage
    frame = ObjectFrame.from_points(rough.vertices[np.unique(rough.faces)])
    inside = Mesh(frame.to_object(rough.vertices), rough.faces)
    coordinates, interior = latent_voxels(inside, stage.mesh_decoder.resolution, model.settings.occupancy)
    grid = SparseGrid(coordinates.to(model.device), 1)
    condition = stage.embed({name: value[None].to(model.device) for name, value in inputs.items()})
    noise = noise_of_places(coordinates, stage.mesh_decoder.resolution, stage.flow.in_channels, seed)
    latents = stage.sample(condition, grid, noise=noise.to(model.device))
    (surface,) = stage.decode(latents, grid, interior.to(model.device))
    if len(surface.faces) == 0:
        raise ValueError(
            f"the mesh decoder made no surface of {len(coordinates)} voxels; the structure is thinner than a voxel "
            f"({frame.size_mm / stage.mesh_decoder.resolution:.2f} mm), or far from what the latent stage was trained "
            "on. Take the structure's own surface (--stages structure)"
        )
    vertices = frame.to_patient(surface.vertices.double().cpu().numpy())
    return outer_surface(Mesh(vertices, surface.faces.cpu().numpy()))


def noise_of_places(coordinates: Tensor, resolution: int, channels: int, seed: int) -> Tensor:
    """Standard normal noise (N, channels) that belongs to a voxel's place, (N, 4), in the grid.

    Drawn in the order of the voxels, one voxel more would give all that follow other noise: a rounding error in the
    structure, such as merging an adapter makes, would become another surface.
    """
    generator = torch.Generator().manual_seed(seed)
    _, x, y, z = coordinates.long().unbind(1)
    return torch.randn((resolution,) * 3 + (channels,), generator=generator)[x, y, z]


def latent_voxels(mesh_object: Mesh, resolution: int, occupancy: str) -> tuple[Tensor, Tensor]:
    """Return the surface's voxels, int32 (N, 4), and which voxels (1, R, R, R) are wholly inside.

    Args:
        mesh_object: closed, in object coordinates.
        occupancy: `solid` takes the voxels that the level 1/2 of the solid's shares passes, as the tiny model was
            trained on, and where the solid is too thin to have one those that the surface touches; `surface` takes
            all that the surface touches, as in the release.
    """
    shares = torch.from_numpy(occupancy_grid(mesh_object, resolution, "solid"))[None, None]
    touched = torch.from_numpy(occupancy_grid(mesh_object, resolution, "surface"))[None, None]
    if occupancy == "solid":
        touched = solid_shell(shares, touched)
    coordinates = occupied_coordinates(touched)
    return coordinates, enclosed(shares > 0.5, coordinates)


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
