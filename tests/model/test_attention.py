"""Attention, norms and embeddings: hand-worked values and identities."""

import math

import pytest
import torch
from torch import nn

from sam3d_objects.model.attention import CrossAttention, FeedForward, MultiHeadRMSNorm, attend
from sam3d_objects.model.embeddings import (
    TimestepEmbedder,
    absolute_position_embedding,
    grid_coordinates,
    sinusoids,
)


def test_attention_by_hand() -> None:
    # One head of width 4, so the scale is 1/2: logits 0 and ln 3 give weights 1/4 and 3/4.
    q = torch.tensor([2.0, 0, 0, 0]).reshape(1, 1, 1, 4)
    k = torch.tensor([[0.0, 0, 0, 0], [math.log(3.0), 0, 0, 0]]).reshape(1, 2, 1, 4)
    v = torch.tensor([[1.0, 0, 0, 0], [0, 8.0, 0, 0]]).reshape(1, 2, 1, 4)
    torch.testing.assert_close(attend(q, k, v), torch.tensor([[[0.25, 6.0, 0, 0]]]))


def test_rms_norm_gives_length_root_width() -> None:
    norm = MultiHeadRMSNorm(heads=2, width=16)
    x = 100 * torch.randn(3, 5, 2, 16)
    torch.testing.assert_close(norm(x).norm(dim=-1), torch.full((3, 5, 2), 4.0))
    torch.testing.assert_close(norm(7 * x), norm(x))
    assert norm(x.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("rows", [1, 2, 3])
@torch.no_grad()
def test_folded_condition_equals_a_repeated_one(rows: int) -> None:
    torch.manual_seed(0)
    attention = CrossAttention(channels=8, condition_channels=6, heads=2)
    x, condition = torch.randn(2 * rows, 4, 8), torch.randn(2, 5, 6)
    expected = attention(x, condition.repeat_interleave(rows, dim=0))
    torch.testing.assert_close(attention(x, condition), expected)
    # Rows of one condition do not see each other: another neighbour changes nothing.
    x[-1] += 1
    torch.testing.assert_close(attention(x, condition)[:-1], expected[:-1])


def test_feed_forward_is_linear_gelu_linear() -> None:
    layer = FeedForward(4, ratio=2.5)
    x = torch.randn(2, 3, 4)
    first, last = layer.mlp[0], layer.mlp[2]
    assert isinstance(first, nn.Linear) and isinstance(last, nn.Linear)
    hidden = x @ first.weight.T + first.bias
    assert hidden.shape[-1] == 10
    gelu = 0.5 * hidden * (1 + torch.tanh(math.sqrt(2 / math.pi) * (hidden + 0.044715 * hidden**3)))
    torch.testing.assert_close(layer(x), gelu @ last.weight.T + last.bias)


def test_sinusoids_by_hand() -> None:
    out = sinusoids(torch.tensor([0.0, 1.0, 1000.0]), width=4, max_period=10_000.0)
    expected = [[math.cos(t), math.cos(t / 100), math.sin(t), math.sin(t / 100)] for t in (0.0, 1.0, 1000.0)]
    torch.testing.assert_close(out, torch.tensor(expected))
    assert sinusoids(torch.zeros(1)).shape == (1, 256)


def test_timestep_embedder_follows_its_dtype() -> None:
    embedder = TimestepEmbedder(6)
    t = torch.tensor([3.0, 900.0])
    first, last = embedder.mlp[0], embedder.mlp[2]
    expected = last(torch.nn.functional.silu(first(sinusoids(t))))
    torch.testing.assert_close(embedder(t), expected)
    assert embedder.double()(t).dtype == torch.float64


def test_absolute_positions_by_hand() -> None:
    # 14 channels: 14 // 3 // 2 = 2 frequencies, 1 and 1/100; 12 numbers and two zeros.
    x, y, z = 3.0, 0.0, 7.0
    out = absolute_position_embedding(torch.tensor([[3, 0, 7]]), 14)[0]
    per_axis = [f(v * w) for v in (x, y, z) for f in (math.sin, math.cos) for w in (1.0, 0.01)]
    torch.testing.assert_close(out, torch.tensor([*per_axis, 0.0, 0.0]))


def test_grid_coordinates_in_c_order() -> None:
    coordinates = grid_coordinates(3)
    assert coordinates.shape == (27, 3)
    assert coordinates[[0, 1, 3, 9, 26]].tolist() == [[0, 0, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0], [2, 2, 2]]
