"""The latent stage of SAM 3D Objects: surface voxels and condition tokens -> latents -> surfaces.

Letters: N voxels of a batch, B samples, T condition tokens, C condition channels.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from sam3d_objects.model import sampler
from sam3d_objects.model.condition.fuser import EmbedderFuser
from sam3d_objects.model.flexicubes import Surface, surface_from_features
from sam3d_objects.model.latent.encoder import LatentEncoder
from sam3d_objects.model.latent.flow import LatentFlow
from sam3d_objects.model.latent.mesh_decoder import MeshDecoder
from sam3d_objects.model.latent.settings import LatentSettings
from sam3d_objects.model.offload import on_device
from sam3d_objects.model.sampler import Latents
from sam3d_objects.model.sparse import SparseGrid, SparseTensor

LATENT = "slat"


class LatentStage(nn.Module):
    """The second half of SAM 3D Objects.

    Args:
        condition_embedder: of the image and the mask; this stage sees no pointmap.
        encoder: makes training targets; a stand-in that says why, when it is called, where its weights are not there.
        fingerprint: SHA-256 of the weights; an adapter remembers it.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        condition_embedder: EmbedderFuser,
        flow: LatentFlow,
        mesh_decoder: MeshDecoder,
        encoder: LatentEncoder,
        settings: LatentSettings,
        fingerprint: str = "",
    ) -> None:
        super().__init__()
        self.condition_embedder, self.flow = condition_embedder, flow
        self.mesh_decoder, self.encoder = mesh_decoder, encoder
        self.settings, self.fingerprint = settings, fingerprint
        self.offload_device: torch.device | None = None
        # From the settings, so not part of the state dict.
        self.register_buffer("mean", torch.tensor(settings.mean), persistent=False)
        self.register_buffer("std", torch.tensor(settings.std), persistent=False)

    def embed(self, inputs: dict[str, Tensor]) -> Tensor:
        """Embed a batch of images and masks, each (B, c, S, S), as condition tokens (B, T, C)."""
        with on_device(self.condition_embedder, self.offload_device):
            return self.condition_embedder(inputs)

    def normalise(self, latents: Tensor) -> Tensor:
        """Latents (N, 8) as the flow sees them."""
        return (latents - self.mean) / self.std

    def velocity(self, grid: SparseGrid) -> sampler.Velocity:
        """The flow on fixed voxels, as the sampler calls it; it takes no step size d."""

        def network(x: Latents, t: Tensor, condition: Tensor, d: Tensor | None) -> Latents:
            return {LATENT: self.flow(SparseTensor(x[LATENT], grid), t, condition)}

        return network

    @torch.no_grad()
    def sample(
        self,
        condition: Tensor,
        grid: SparseGrid,
        generator: torch.Generator | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        rescale: float | None = None,
        noise: Tensor | None = None,
    ) -> Tensor:
        """Draw latents (N, 8), not normalised, for the voxels of `grid`, given tokens (B, T, C) of its B samples.

        The settings' sampling constants are taken where none are given.

        Args:
            noise: float32 (N, 8) to start from; drawn voxel by voxel from `generator` where not given.
        """
        settings = self.settings
        if noise is None:
            noise = torch.randn(len(grid), self.flow.in_channels, generator=generator).to(grid.device)
        with on_device(self.flow, self.offload_device):
            latents = sampler.integrate(
                self.velocity(grid),
                {LATENT: noise},
                condition,
                settings.steps if steps is None else steps,
                settings.rescale if rescale is None else rescale,
                settings.guidance if guidance is None else guidance,
                d=None,
            )[LATENT]
        return latents * self.std.to(latents) + self.mean.to(latents)

    @torch.no_grad()
    def decode(self, latents: Tensor, grid: SparseGrid, interior: Tensor | None = None) -> list[Surface]:
        """Decode latents (N, 8) to each sample's surface in its object's cube, sample by sample to save memory.

        Args:
            interior: (B, R, R, R) bool, voxels without latents that are known to be inside. The released way knows of
                none: what no latent speaks of is outside there, and the shell gets a second, inner surface.
        """
        surfaces = []
        resolution = self.mesh_decoder.fine_resolution
        for index, (start, stop) in enumerate(pairwise(grid.offsets)):
            coordinates = grid.coordinates[start:stop].clone()
            coordinates[:, 0] = 0
            with on_device(self.mesh_decoder, self.offload_device):
                cubes = self.mesh_decoder(SparseTensor(latents[start:stop], SparseGrid(coordinates, 1)))
            places, known = cubes.grid.coordinates[:, 1:], None if interior is None else interior[index]
            surface, _ = surface_from_features(cubes.features.float(), places, resolution, interior=known)
            surfaces.append(surface)
        return surfaces
