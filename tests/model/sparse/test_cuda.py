"""The sparse parts on a GPU give what they give on the CPU, forward and backward."""

import pytest
import torch
from torch import Tensor, nn

from sam3d_objects.model.sparse import (
    SparseConv3d,
    SparseGrid,
    SparseGroupNorm,
    SparseTensor,
    attend_condition,
    attend_windows,
    attend_within,
    downsample,
    subdivide,
    upsample,
)
from tests.model.sparse.shells import packed, sphere_shell

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
CHANNELS = 64


class EveryPart(nn.Module):
    """Group norm, convolutions at two resolutions, resampling, and the three attentions, one after another."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = SparseGroupNorm(CHANNELS)
        self.fine = SparseConv3d(CHANNELS, CHANNELS)
        self.coarse = SparseConv3d(CHANNELS, CHANNELS)

    def forward(self, features: Tensor, condition: Tensor, grid: SparseGrid) -> Tensor:
        x = self.fine(self.norm(SparseTensor(features, grid)))
        x = upsample(self.coarse(downsample(x)), x.grid)
        heads, tokens = x.features.unflatten(1, (4, -1)), condition.unflatten(2, (4, -1))
        mixed = attend_within(heads, heads, heads, grid) + attend_windows(heads, heads, heads, grid, 8, 4)
        mixed = mixed + attend_condition(heads, tokens, tokens, grid)
        return subdivide(x.replace(x.features + mixed)).features


@pytest.mark.parametrize(("dtype", "relative"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_same_as_the_cpu_in_float64(dtype: torch.dtype, relative: float) -> None:
    torch.manual_seed(0)
    grid = packed(sphere_shell(24, 9.0), torch.zeros(0, 3), sphere_shell(32, 13.0))
    features, condition = torch.randn(len(grid), CHANNELS), torch.randn(3, 11, CHANNELS)
    module = EveryPart().to(dtype)  # both devices get the weights as `dtype` rounds them
    found = []
    for device, kind in (("cpu", torch.float64), ("cuda", dtype)):
        module.to(device, kind).zero_grad()
        inputs = features.to(dtype).to(device, kind).requires_grad_()
        out = module(inputs, condition.to(dtype).to(device, kind), grid.to(device))
        out.square().mean().backward()
        gradients = [part.grad for part in (inputs, module.fine.conv.weight, module.fine.conv.bias)]
        found.append([part.cpu().double() for part in (out.detach(), *gradients) if part is not None])
    for expected, one in zip(*found, strict=True):
        assert float((one - expected).norm()) <= relative * float(expected.norm())
