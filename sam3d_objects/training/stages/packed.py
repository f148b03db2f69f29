"""The latent half's networks as the loop calls them: with tensors alone.

What wraps a network, for mixed precision and for several processes, looks for tensors in what goes in and comes out,
and does not know sparse ones. The adapter is saved with the wrapped network's own names. Letters: B samples, N voxels
of a batch, T condition tokens, C channels.
"""

from torch import Tensor, nn

from sam3d_objects.model.latent.flow import LatentFlow
from sam3d_objects.model.latent.mesh_decoder import MeshDecoder
from sam3d_objects.model.sparse import SparseGrid, SparseTensor


class PackedFlow(nn.Module):
    """The latent flow."""

    def __init__(self, flow: LatentFlow) -> None:
        super().__init__()
        self.flow = flow

    def forward(self, latents: Tensor, coordinates: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """Return the velocity (N, 8) of latents (N, 8) at int32 coordinates (N, 4) of B samples.

        Args:
            t: (B,) times, 0 to 1000; condition: (B, T, C).
        """
        return self.flow(SparseTensor(latents, SparseGrid(coordinates, len(t))), t, condition)


class PackedDecoder(nn.Module):
    """The mesh decoder."""

    def __init__(self, decoder: MeshDecoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, latents: Tensor, coordinates: Tensor, count: int) -> Tensor:
        """Map latents (N, 8) at int32 coordinates (N, 4) of `count` samples to features (64 N, 53 or 101)."""
        return self.decoder(SparseTensor(latents, SparseGrid(coordinates, count))).features
