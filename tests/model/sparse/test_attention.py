"""Attention over packed voxels against plain loops, and the bound of the padding."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from sam3d_objects.model.attention import attend
from sam3d_objects.model.sparse import SparseGrid, attend_condition, attend_windows, attend_within, attention
from sam3d_objects.model.sparse.windows import PADDING
from tests.model.sparse.shells import packed, random_batch, sphere_shell

HEADS, WIDTH = 2, 4


def heads(count: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(count, HEADS, WIDTH, dtype=dtype, requires_grad=True)


def queries_keys_values(count: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    return heads(count, dtype), heads(count, dtype), heads(count, dtype)


def attend_by_keys(q: Tensor, k: Tensor, v: Tensor, keys: list[tuple[int, ...]]) -> Tensor:
    """Attention among rows of equal keys, one key after the other."""
    out = q.new_zeros(len(q), HEADS * WIDTH)
    for key in set(keys):
        rows = torch.tensor([row for row, own in enumerate(keys) if own == key])
        out[rows] = attend(q[rows][None], k[rows][None], v[rows][None])[0]
    return out


def keys_of(grid: SparseGrid, window: int, shift: int) -> list[tuple[int, ...]]:
    return [(sample, *((side + shift) // window for side in place)) for sample, *place in grid.coordinates.tolist()]


def assert_same_with_gradients(found: Tensor, expected: Tensor, inputs: tuple[Tensor, ...]) -> None:
    torch.testing.assert_close(found, expected)
    probe = torch.randn_like(found)
    gradients = (torch.autograd.grad((out * probe).sum(), inputs) for out in (found, expected))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("window", "shift"), [(3, 0), (3, 1), (4, 2), (100, 0)])
@pytest.mark.parametrize("score_bytes", [1, attention.SCORE_BYTES])
def test_windows(
    window: int, shift: int, dtype: torch.dtype, score_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "SCORE_BYTES", score_bytes)
    torch.manual_seed(0)
    grid = random_batch(9)
    inputs = queries_keys_values(len(grid), dtype)
    found = attend_windows(*inputs, grid, window, shift)
    assert_same_with_gradients(found, attend_by_keys(*inputs, keys_of(grid, window, shift)), inputs)


def test_a_window_does_not_wrap_around() -> None:
    # Of size 4, shifted by 2: floor(5/4) = 1 for place 3, floor(2/4) = 0 for place 0, floor(9/4) = 2 for place 7.
    grid = packed(torch.tensor([[0, 0, 0], [0, 0, 3], [0, 0, 7]]))
    q, k, v = queries_keys_values(3)
    torch.testing.assert_close(attend_windows(q, k, v, grid, 4, 2), v.flatten(1))


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 1.0])
def test_padding_is_bounded(share: float) -> None:
    torch.manual_seed(0)
    for grid in (random_batch(24, share), packed(sphere_shell(32, 13.0), sphere_shell(20, 8.0, 3.0))):
        windows = grid.windows(8, 4)
        assert len(grid) <= len(windows.rows) <= PADDING * len(grid)
        assert torch.equal(windows.rows[windows.back], torch.arange(len(grid)))
        assert len(windows.groups) < 45, "8 lengths without padding, then one group for each 12.5 % up to 8^3"


def test_within_samples_of_which_one_is_empty() -> None:
    torch.manual_seed(0)
    grid = packed(sphere_shell(6, 2.0), torch.zeros(0, 3), sphere_shell(5, 2.0))
    inputs = queries_keys_values(len(grid))
    samples: list[tuple[int, ...]] = [(sample,) for sample, *_ in grid.coordinates.tolist()]
    assert_same_with_gradients(attend_within(*inputs, grid), attend_by_keys(*inputs, samples), inputs)


def test_condition_of_the_own_sample() -> None:
    torch.manual_seed(0)
    grid = packed(sphere_shell(6, 2.0), torch.zeros(0, 3), sphere_shell(5, 2.0))
    q = heads(len(grid))
    k, v = (torch.randn(3, 7, HEADS, WIDTH, requires_grad=True) for _ in range(2))
    expected = torch.cat(
        [attend(q[row][None, None], k[[s]], v[[s]])[0] for row, s in enumerate(grid.coordinates[:, 0].tolist())]
    )
    assert_same_with_gradients(attend_condition(q, k, v, grid), expected, (q, k, v))
    with pytest.raises(AssertionError):
        attend_condition(q, k[:2], v[:2], grid)


@pytest.mark.parametrize(
    "layer", [attend_within, lambda q, k, v, grid: attend_windows(q, k, v, grid, 8, 0)], ids=["within", "windows"]
)
def test_no_voxels(layer: Callable[[Tensor, Tensor, Tensor, SparseGrid], Tensor]) -> None:
    grid = SparseGrid(torch.zeros(0, 4, dtype=torch.int32), batch=2)
    assert layer(*queries_keys_values(0), grid).shape == (0, HEADS * WIDTH)
