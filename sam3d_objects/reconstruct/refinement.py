"""The latent stage on a structure: from where the surface is to how it runs.

Letters: R side of the latent's grid, N voxels, S side of the embedder's inputs.
"""

import numpy as np
import torch
from torch import Tensor

from sam3d_objects.mesh import Mesh, ObjectFrame, occupancy_grid, outer_surface
from sam3d_objects.model import SAM3DObjects
from sam3d_objects.model.latent.voxels import latent_voxels
from sam3d_objects.model.sparse import SparseGrid


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
    shares, touched = (occupancy_grid(inside, stage.mesh_decoder.resolution, kind) for kind in ("solid", "surface"))
    coordinates, interior = latent_voxels(shares, touched, model.settings.occupancy)
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
