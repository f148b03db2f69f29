"""Inversion: the latents that make a frozen mesh decoder give a surface back, found by optimisation.

Where no latent encoder can be run there is still the decoder. Its latents are moved until the corners of its cubes are
inside and outside where the shape is.

Letters: N voxels, A corners of their fine cubes, R fine cubes along a side.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from sam3d_objects.mesh import Mesh, sample_surface, signed_distance
from sam3d_objects.model.flexicubes import CornerValues, corner_values
from sam3d_objects.model.latent.mesh_decoder import MeshDecoder
from sam3d_objects.model.sparse import SparseGrid, SparseTensor
from sam3d_objects.training.losses import sign_loss

_SURFACE_POINTS = 20_000
_SEED = 0
_BETAS = (0.9, 0.99)
_LR_FLOOR = 0.05  # part of the learning rate at which the cosine ends
_SCALE_LR = 0.05


@dataclass(frozen=True)
class InversionOptions:
    """How latents are searched for.

    Attributes:
        steps: of Adam, down a cosine; on hippocampi at 32^3 the surface distance no longer falls after about 50.
        lr: highest learning rate, in standard deviations of the latents.
        prior_weight: of the latents' mean square in normalised space: the negative logarithm of a standard normal
            density, up to a factor and a constant. It keeps what the surface does not fix near the mean: with 0.01 the
            latents of hippocampi have a mean square of 0.9, with 0.001 of 1.3 for a surface 0.003 mm nearer.
    """

    steps: int = 40
    lr: float = 0.2
    prior_weight: float = 1e-2

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: one is out of range.
        """
        for name, holds, wanted in (
            ("steps", self.steps >= 1, "at least 1"),
            ("lr", self.lr > 0 and math.isfinite(self.lr), "above 0"),
            ("prior_weight", self.prior_weight >= 0 and math.isfinite(self.prior_weight), "0 or more"),
        ):
            if not holds:
                raise ValueError(f"inversion: {name} must be {wanted}, got {getattr(self, name)!r}")


class CornerField:
    """The signed distance of a shape near the corners of a grid's cubes, exact at the corners, linear around them.

    Args:
        mesh_object: closed, in object coordinates.
        corners: of the cubes that are asked about; the corners' numbers must stay these.

    Raises:
        ValueError: the mesh is open or empty.
    """

    def __init__(self, mesh_object: Mesh, corners: CornerValues) -> None:
        places = corners.vertices.cpu().double().numpy() / corners.resolution - 0.5
        points, normals, _ = sample_surface(mesh_object, _SURFACE_POINTS, np.random.default_rng(_SEED))
        nearest = cKDTree(points).query(places)[1]
        device = corners.sdf.device
        self.resolution = corners.resolution
        self.places = torch.from_numpy(places).float().to(device)
        self.distances = torch.from_numpy(signed_distance(mesh_object, places)).float().to(device)
        self.normals = torch.from_numpy(normals[nearest]).float().to(device)

    def at(self, positions: Tensor) -> Tensor:
        """Signed distances (A,) in fine cubes, negative inside, at the deformed corners (A, 3); differentiable.

        A corner moves by less than half a cube, along which the distance is taken as linear.
        """
        moved = ((positions - self.places) * self.normals).sum(dim=1)
        return (self.distances + moved) * self.resolution


def invert(
    decoder: MeshDecoder,
    mean: Tensor,
    std: Tensor,
    coordinates: Tensor,
    mesh_object: Mesh,
    options: InversionOptions,
) -> Tensor:
    """Search for the latents (N, 8), not normalised, that make the decoder give a shape back.

    Least are `sign_loss` at the deformed corners, over all of them, and `prior_weight` x the mean square of the
    normalised latents. The search starts at the mean. The scale of the decoder's scalars, which need not be
    distances, is searched for beside the latents.

    Args:
        decoder: nothing in it changes.
        mean, std: (8,) of the latents.
        coordinates: int32 (N, 4) of one sample, on the decoder's device.
        mesh_object: closed, in object coordinates.
    """
    grid = SparseGrid(coordinates, 1)
    latents = torch.zeros(len(grid), len(mean), device=coordinates.device, requires_grad=True)

    def corners() -> CornerValues:
        cubes = decoder(SparseTensor(latents * std + mean, grid))
        return corner_values(cubes.features, cubes.grid.coordinates[:, 1:], decoder.fine_resolution)

    with torch.no_grad():
        field = CornerField(mesh_object, corners())
    log_scale = torch.zeros((), device=coordinates.device, requires_grad=True)
    groups = [{"params": [latents], "lr": options.lr}, {"params": [log_scale], "lr": _SCALE_LR}]
    optimizer = torch.optim.Adam(groups, betas=_BETAS)
    with torch.enable_grad():
        for step in range(options.steps):
            fall = (1 + math.cos(math.pi * step / options.steps)) / 2
            optimizer.param_groups[0]["lr"] = options.lr * (_LR_FLOOR + (1 - _LR_FLOOR) * fall)
            found = corners()
            loss = sign_loss(found.sdf * torch.exp(-log_scale), field.at(found.positions))
            loss = loss + options.prior_weight * latents.square().mean()
            # Of these two alone: the decoder's weights get no gradient, whether they are frozen or not.
            latents.grad, log_scale.grad = torch.autograd.grad(loss, (latents, log_scale))
            optimizer.step()
    return latents.detach() * std + mean
