"""Group norm over the voxels of one sample."""

import pytest
import torch
from torch import nn

from sam3d_objects.model.sparse import SparseGroupNorm, SparseTensor
from tests.model.sparse.shells import packed, random_batch, sphere_shell


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_torch_s_on_each_sample(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    norm = SparseGroupNorm(12, groups=4).to(dtype)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    grid = random_batch(batch=3)
    features = 3 + torch.randn(len(grid), 12, dtype=dtype, requires_grad=True)
    expected = torch.cat(
        [
            nn.functional.group_norm(part.T[None], 4, norm.weight, norm.bias, eps=1e-5)[0].T
            for part in features.split(grid.counts)
        ]
    )
    found = norm(SparseTensor(features, grid)).features
    torch.testing.assert_close(found, expected)
    probe = torch.randn_like(found)
    for one, other in zip(
        *(torch.autograd.grad((out * probe).sum(), features) for out in (found, expected)), strict=True
    ):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_half_precision_is_computed_in_float32() -> None:
    torch.manual_seed(0)
    grid = packed(sphere_shell(8, 3.0))
    norm = SparseGroupNorm(64)
    features = (100 + torch.randn(len(grid), 64)).bfloat16()
    expected = norm(SparseTensor(features.float(), grid)).features.bfloat16()
    assert torch.equal(norm.bfloat16()(SparseTensor(features, grid)).features, expected)


def test_a_sample_without_voxels() -> None:
    one = sphere_shell(6, 2.0)
    norm = SparseGroupNorm(8, groups=2)
    features = torch.randn(len(one), 8)
    found = norm(SparseTensor(features, packed(torch.zeros(0, 3), one))).features
    assert torch.equal(found, norm(SparseTensor(features, packed(one))).features)


def test_channels_that_do_not_divide() -> None:
    with pytest.raises(AssertionError):
        SparseGroupNorm(33)
