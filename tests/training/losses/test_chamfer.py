"""Chamfer distance: by hand, as brute force has it, in blocks, and its gradient."""

import pytest
import torch
from torch import Tensor

from sam3d_objects.training.losses import chamfer_distance, nearest_index


def points(count: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(count, 3, generator=torch.Generator().manual_seed(seed), dtype=dtype) - 0.5


def brute_force(first: Tensor, second: Tensor, squared: bool) -> Tensor:
    distances = (first[:, None] - second[None]).square().sum(dim=2)
    distances = distances if squared else distances.sqrt()
    return distances.min(dim=1).values.mean() + distances.min(dim=0).values.mean()


def test_by_hand() -> None:
    first = torch.tensor([[0.0, 0, 0], [2, 0, 0]])
    second = torch.tensor([[0.0, 3, 0], [2, 0, 0], [2, 0, 1]])
    # To the second: 2 (to the one at x = 2) and 0. To the first: 3, 0 and 1.
    assert chamfer_distance(first, second, squared=False).item() == pytest.approx(1 + 4 / 3)
    assert chamfer_distance(first, second).item() == pytest.approx(2 + 10 / 3)
    assert nearest_index(first, second).tolist() == [1, 1]


@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("max_pairs", [2**24, 50, 1])
def test_blocks_give_what_brute_force_gives_with_its_gradient(squared: bool, max_pairs: int) -> None:
    first, second = points(37, 0).requires_grad_(), points(23, 1).requires_grad_()
    found = chamfer_distance(first, second, squared, max_pairs)
    expected = brute_force(first, second, squared)
    assert found.item() == pytest.approx(expected.item(), rel=1e-14)
    for one, two in zip(*(torch.autograd.grad(loss, (first, second)) for loss in (found, expected)), strict=True):
        assert torch.allclose(one, two, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("squared", [True, False])
def test_the_gradient_is_finite_differences(squared: bool) -> None:
    sets = (points(7, 2).requires_grad_(), points(9, 3).requires_grad_())
    assert torch.autograd.gradcheck(lambda a, b: chamfer_distance(a, b, squared), sets)


@pytest.mark.parametrize("squared", [True, False])
def test_the_same_set_is_at_distance_zero_with_gradient_zero(squared: bool) -> None:
    first = points(50, 4, torch.float32).requires_grad_()
    loss = chamfer_distance(first, first.detach().flip(0), squared)
    loss.backward()
    assert loss.item() == 0.0 and first.grad is not None and not first.grad.any()


def test_near_points_are_told_apart_in_float32() -> None:
    # A millionth apart at 0.5: |x|^2 - 2 x y + |y|^2 would see them as one.
    others = torch.full((100, 3), 0.5)
    others[:, 0] += torch.arange(100) * 1e-6
    assert nearest_index(others, others).tolist() == list(range(100))


def test_no_graph_is_kept_for_the_pairs() -> None:
    first, second = points(3000, 5, torch.float32).requires_grad_(), points(3000, 6, torch.float32)
    held: list[int] = []

    def note(tensor: Tensor) -> Tensor:
        held.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        chamfer_distance(first, second)
    assert max(held) <= 3 * 3000


@pytest.mark.parametrize("shape", [(0, 3), (4, 2), (3,)])
def test_what_is_no_point_set_is_refused(shape: tuple[int, ...]) -> None:
    for sets in ((torch.zeros(shape), torch.zeros(2, 3)), (torch.zeros(2, 3), torch.zeros(shape))):
        with pytest.raises(ValueError, match=r"expected points \(N, 3\)"):
            chamfer_distance(*sets)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_gives_the_same() -> None:
    found = []
    for device in ("cuda", "cpu"):
        first = points(500, 7, torch.float32).to(device).requires_grad_()
        second = points(400, 8, torch.float32).to(device)
        loss = chamfer_distance(first, second, max_pairs=10_000)
        found.append((loss.item(), torch.autograd.grad(loss, first)[0].cpu()))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    assert torch.allclose(found[0][1], found[1][1], atol=1e-7)
