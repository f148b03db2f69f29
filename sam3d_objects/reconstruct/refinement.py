"""The latent stage on a structure: from where the surface is to how it runs.

Letters: R side of the latent's grid, N voxels, S side of the embedder's inputs.
"""

import numpy as np
import torch
from torch import Tensor

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
    generator = torch.Generator().manual_seed(seed)
    coordinates, interior = latent_voxels(inside, stage.mesh_decoder.resolution, model.settings.occupancy)
    grid = SparseGrid(coordinates.to(model.device), 1)
    condition = stage.embed({name: value[None].to(model.device) for name, value in inputs.items()})
    latents = stage.sample(condition, grid, generator)
    (surface,) = stage.decode(latents, grid, interior.to(model.device))
    if len(surface.faces) == 0:
        raise ValueError("the mesh decoder made no surface: its latents are far from what it was trained on")
    vertices = frame.to_patient(surface.vertices.double().cpu().numpy())
    return outer_surface(Mesh(vertices, surface.faces.cpu().numpy()))


def latent_voxels(mesh_object: Mesh, resolution: int, occupancy: str) -> tuple[Tensor, Tensor]:
    """Return the surface's voxels, int32 (N, 4), and which voxels (1, R, R, R) are wholly inside.

    Args:
        mesh_object: closed, in object coordinates.
        occupancy: `solid` takes the voxels that the level 1/2 of the solid's shares passes, as the tiny model was
            trained on; `surface` those that the surface touches, as in the release.
    """
    shares = torch.from_numpy(occupancy_grid(mesh_object, resolution, "solid"))[None, None]
    if occupancy == "solid":
        coordinates = crossed_coordinates(shares)
    else:
        surface = torch.from_numpy(occupancy_grid(mesh_object, resolution, "surface"))
        coordinates = occupied_coordinates(surface[None, None])
    return coordinates, enclosed(shares > 0.5, coordinates)
