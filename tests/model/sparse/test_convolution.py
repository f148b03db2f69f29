"""Sparse convolution: equal to the dense one, forward and backward, in every precision."""

import pytest
import torch
from torch import Tensor

from sam3d_objects.model.sparse import SparseConv3d, SparseGrid, SparseTensor, convolution
from tests.model.sparse.shells import dense_convolution, packed, random_batch, sphere_shell

SIDE = 7


def outputs_and_gradients(layer: SparseConv3d, features: Tensor, out: Tensor) -> list[Tensor]:
    probe = (torch.arange(out.numel()) % 7 - 2).view_as(out).to(out.dtype)  # exact in every precision
    gradients = torch.autograd.grad(out, (features, layer.conv.weight, layer.conv.bias), probe)
    return [out.detach(), *gradients]


@pytest.mark.parametrize("chunk_bytes", [1, 200, convolution.CPU_CHUNK_BYTES])
@pytest.mark.parametrize("channels", [(3, 5), (8, 1)])
def test_dense_parity(channels: tuple[int, int], chunk_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convolution, "CPU_CHUNK_BYTES", chunk_bytes)
    torch.manual_seed(0)
    layer = SparseConv3d(*channels).double()
    grid = random_batch(SIDE)
    x = SparseTensor(torch.randn(len(grid), channels[0], dtype=torch.float64, requires_grad=True), grid)
    found = outputs_and_gradients(layer, x.features, layer(x).features)
    expected = outputs_and_gradients(layer, x.features, dense_convolution(layer, x, SIDE))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_dense_parity_in_float32_on_a_shell() -> None:
    torch.manual_seed(0)
    layer = SparseConv3d(32, 16)
    grid = packed(sphere_shell(16, 6.0), sphere_shell(16, 5.0))
    x = SparseTensor(torch.randn(len(grid), 32), grid)
    torch.testing.assert_close(layer(x).features, dense_convolution(layer, x, 16), atol=1e-5, rtol=1e-5)


def test_one_weight_by_hand() -> None:
    # Tap (2, 1, 0) of C order reads the voxel at +(1, 0, -1).
    layer = SparseConv3d(1, 1)
    with torch.no_grad():
        layer.conv.weight.zero_()[0, 2, 1, 0, 0] = 10.0
        layer.conv.bias.fill_(0.5)
    grid = packed(torch.tensor([[1, 1, 1], [2, 1, 0], [2, 1, 2]]), torch.tensor([[2, 1, 0]]))
    out = layer(SparseTensor(torch.tensor([[1.0], [2.0], [3.0], [4.0]]), grid)).features
    assert out[:, 0].tolist() == [20.5, 0.5, 0.5, 0.5]


def test_gradcheck() -> None:
    torch.manual_seed(0)
    grid = random_batch(3, share=0.5)
    layer = SparseConv3d(2, 3).double()
    tensors = [torch.randn(len(grid), 2, dtype=torch.float64), layer.conv.weight.detach(), layer.conv.bias.detach()]

    def convolve(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        parameters = {"conv.weight": weight, "conv.bias": bias}
        return torch.func.functional_call(layer, parameters, (SparseTensor(features, grid),)).features

    assert torch.autograd.gradcheck(convolve, [tensor.clone().requires_grad_() for tensor in tensors])


@pytest.mark.parametrize("wanted", ["features", "weight", "bias"])
def test_only_the_gradients_that_are_wanted(wanted: str) -> None:
    torch.manual_seed(0)
    grid = random_batch(4)
    layer = SparseConv3d(2, 3)
    x = SparseTensor(torch.randn(len(grid), 2), grid)
    tensors = {"features": x.features, "weight": layer.conv.weight, "bias": layer.conv.bias}
    for name, tensor in tensors.items():
        tensor.requires_grad_(name == wanted)
    layer(x).features.sum().backward()
    assert [name for name, tensor in tensors.items() if tensor.grad is not None] == [wanted]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("autocast", [False, True])
def test_half_precision(dtype: torch.dtype, autocast: bool) -> None:
    torch.manual_seed(0)
    grid = random_batch(SIDE, share=0.6)
    layer = SparseConv3d(16, 8)
    features = torch.randn(len(grid), 16).to(dtype).float()
    with torch.no_grad():
        layer.conv.weight.copy_(layer.conv.weight.to(dtype))
        layer.conv.bias.copy_(layer.conv.bias.to(dtype))
    inputs = features.clone().requires_grad_()
    expected = outputs_and_gradients(layer, inputs, dense_convolution(layer, SparseTensor(inputs, grid), SIDE))
    if autocast:
        with torch.autocast("cpu", dtype):
            out = layer(SparseTensor(inputs, grid)).features
        found = outputs_and_gradients(layer, inputs, out)
    else:
        layer, inputs = layer.to(dtype), features.to(dtype).requires_grad_()
        found = outputs_and_gradients(layer, inputs, layer(SparseTensor(inputs, grid)).features)
    assert out.dtype == dtype if autocast else all(part.dtype == dtype for part in found)
    for one, other in zip(found, expected, strict=True):
        # Each tap's product is rounded once and their sum once, not once a tap.
        assert float((one.float() - other).norm()) < 2 * torch.finfo(dtype).eps * float(other.norm())


def test_autocast_leaves_float64() -> None:
    grid = random_batch(4)
    layer = SparseConv3d(2, 3).double()
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(SparseTensor(torch.randn(len(grid), 2, dtype=torch.float64), grid)).features.dtype == torch.float64


def test_backward_saves_features_and_weight_alone() -> None:
    grid = random_batch(5)
    layer = SparseConv3d(4, 6)
    features = torch.randn(len(grid), 4, requires_grad=True)
    saved: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        saved.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        layer(SparseTensor(features, grid))
    assert [tensor.shape for tensor in saved] == [features.shape, layer.conv.weight.shape]


def test_samples_do_not_mix_and_may_be_empty() -> None:
    torch.manual_seed(0)
    layer = SparseConv3d(3, 4)
    one, two = sphere_shell(6, 2.0), sphere_shell(6, 2.6)
    features = torch.randn(len(one) + len(two), 3)
    whole = layer(SparseTensor(features, packed(one, torch.zeros(0, 3), two))).features
    torch.testing.assert_close(whole[: len(one)], layer(SparseTensor(features[: len(one)], packed(one))).features)
    torch.testing.assert_close(whole[len(one) :], layer(SparseTensor(features[len(one) :], packed(two))).features)
    nothing = SparseTensor(torch.zeros(0, 3), SparseGrid(torch.zeros(0, 4, dtype=torch.int32), batch=1))
    assert layer(nothing).features.shape == (0, 4)


def test_state_keys_and_shapes_are_the_release_s() -> None:
    state = SparseConv3d(4, 6).state_dict()
    assert {name: tuple(value.shape) for name, value in state.items()} == {
        "conv.weight": (6, 3, 3, 3, 4),
        "conv.bias": (6,),
    }
