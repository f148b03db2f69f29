"""Group normalisation of packed voxels. Letters: N voxels over the whole batch, C channels, G groups of channels."""

import torch
from torch import Tensor, nn

from sam3d_objects.model.sparse.tensor import SparseTensor


class SparseGroupNorm(nn.Module):
    """Normalise each group of channels over the voxels of one sample (in float32, or float64), then scale and shift."""

    def __init__(self, channels: int, groups: int = 32, eps: float = 1e-5) -> None:
        super().__init__()
        assert channels % groups == 0, (channels, groups)
        self.groups = groups
        self.eps = eps
        self.weight = nn.Parameter(torch.empty(channels))
        self.bias = nn.Parameter(torch.empty(channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start with a scale of 1 and a shift of 0."""
        nn.init.ones_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Map features (N, C) to (N, C) of the same dtype; a sample without voxels stays so."""
        parts = [self._normalise(part) if len(part) else part for part in x.features.split(x.grid.counts)]
        return x.replace(parts[0] if len(parts) == 1 else torch.cat(parts))

    def _normalise(self, features: Tensor) -> Tensor:
        wide = features.to(torch.promote_types(features.dtype, torch.float32))
        variance, mean = torch.var_mean(wide.unflatten(1, (self.groups, -1)), dim=(0, 2), correction=0)
        scale = (variance + self.eps).rsqrt()[:, None] * self.weight.to(wide.dtype).unflatten(0, (self.groups, -1))
        shift = self.bias.to(wide.dtype).unflatten(0, (self.groups, -1)) - mean[:, None] * scale
        return torch.addcmul(shift.flatten(), wide, scale.flatten()).to(features.dtype)
