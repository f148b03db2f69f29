"""The adapted linear layer: identities, dtypes, merging."""

import math

import pytest
import torch
from torch import nn

from sam3d_objects.model.lora import LoRALinear


def trained_layer(bias: bool = True, dtype: torch.dtype = torch.float32, dropout: float = 0.0) -> LoRALinear:
    torch.manual_seed(0)
    layer = LoRALinear(nn.Linear(6, 10, bias=bias, dtype=dtype), rank=3, alpha=6.0, dropout=dropout)
    with torch.no_grad():
        layer.lora_B.normal_()
    return layer


def test_a_hand_worked_update() -> None:
    layer = LoRALinear(nn.Linear(2, 2), rank=1, alpha=2.0)
    with torch.no_grad():
        layer.original_linear.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
        layer.original_linear.bias.copy_(torch.tensor([10.0, 20.0]))
        layer.lora_A.copy_(torch.tensor([[1.0, 2.0]]))
        layer.lora_B.copy_(torch.tensor([[3.0], [-1.0]]))
    # scaling 2, A x = 1 + 2 * 3 = 7, so the update is 2 * 7 * (3, -1) = (42, -14).
    assert layer(torch.tensor([1.0, 3.0])).tolist() == [1 + 10 + 42, 3 + 20 - 14]
    assert layer.weight.tolist() == [[7.0, 12.0], [-2.0, -3.0]]


def test_fresh_adapter_equals_its_base_exactly() -> None:
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        base = nn.Linear(33, 17, dtype=dtype)
        x = torch.randn(4, 5, 33, dtype=dtype)
        expected = base(x)
        layer = LoRALinear(base)
        assert torch.equal(layer(x), expected)
        assert layer(x).dtype == dtype


def test_shapes_initialisation_and_scaling() -> None:
    layer = LoRALinear(nn.Linear(1000, 50), rank=8, alpha=4.0)
    assert layer.lora_A.shape == (8, 1000) and layer.lora_B.shape == (50, 8)
    assert layer.scaling == 0.5
    assert not layer.lora_B.any()
    # Kaiming-uniform with a = sqrt(5) is uniform in +-1 / sqrt(in).
    bound = 1 / math.sqrt(1000)
    assert 0.99 * bound < layer.lora_A.abs().max() <= bound
    assert layer.lora_A.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.03)


def test_a_generator_decides_the_initial_values() -> None:
    def layer(seed: int) -> LoRALinear:
        return LoRALinear(nn.Linear(5, 5), generator=torch.Generator().manual_seed(seed))

    assert torch.equal(layer(1).lora_A, layer(1).lora_A)
    assert not torch.equal(layer(1).lora_A, layer(2).lora_A)


@pytest.mark.parametrize("bias", [True, False])
def test_weight_and_merge_equal_the_forward_pass(bias: bool) -> None:
    layer = trained_layer(bias)
    x = torch.randn(3, 6)
    merged = layer.merge_weights()
    assert type(merged) is nn.Linear
    assert torch.equal(merged.weight, layer.weight)
    assert (merged.bias is None) == (not bias) == (layer.bias is None)
    assert (merged(x) - layer(x)).abs().max() <= 1e-5 * layer(x).abs().max()
    assert not torch.equal(merged(x), layer.original_linear(x))


def test_merge_sums_in_float32_and_rounds_once() -> None:
    """A bfloat16 product of B and A would lose digits before the sum is rounded."""
    layer = trained_layer(dtype=torch.bfloat16)
    exact = layer.original_linear.weight.double() + layer.scaling * layer.lora_B.double() @ layer.lora_A.double()
    assert layer.merge_weights().weight.dtype == torch.bfloat16
    assert torch.equal(layer.merge_weights().weight, exact.float().bfloat16())


def test_weight_carries_gradients_to_the_adapter() -> None:
    layer = trained_layer()
    layer.weight.sum().backward()
    assert layer.lora_A.grad is not None and layer.lora_B.grad is not None
    assert layer.original_linear.weight.grad is None


def test_disabled_layer_is_its_base() -> None:
    layer = trained_layer()
    x = torch.randn(3, 6)
    layer.enabled = False
    assert torch.equal(layer(x), layer.original_linear(x))
    assert torch.equal(layer.weight, layer.original_linear.weight)
    with pytest.raises(ValueError, match="disabled adapter is not merged"):
        layer.merge_weights()


def test_dropout_acts_on_the_update_in_training_only() -> None:
    layer = trained_layer(dropout=0.5)
    x = torch.randn(200, 6)
    layer.eval()
    assert torch.equal(layer(x), layer(x))
    layer.train()
    a, b = layer(x), layer(x)
    assert not torch.equal(a, b)
    layer.enabled = False
    assert torch.equal(layer(x), layer(x))


def test_half_precision_base_keeps_a_float32_adapter() -> None:
    layer = trained_layer(dtype=torch.bfloat16)
    assert layer.lora_A.dtype == layer.lora_B.dtype == torch.float32
    x = torch.randn(4, 6)
    exact = torch.nn.functional.linear(x, layer.original_linear.weight.float(), layer.original_linear.bias.float())
    exact = exact + layer.scaling * x @ layer.lora_A.t() @ layer.lora_B.t()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = layer(x)
    assert out.dtype == torch.bfloat16
    assert (out.float() - exact).abs().max() < 0.03 * exact.abs().max()
    out.sum().backward()
    assert layer.lora_A.grad is not None and layer.lora_A.grad.dtype == torch.float32
    # Without autocast, activations in the base's own dtype.
    assert layer(x.bfloat16()).dtype == torch.bfloat16


def test_empty_batches_and_any_leading_axes() -> None:
    layer = trained_layer()
    assert layer(torch.zeros(0, 6)).shape == (0, 10)
    x = torch.randn(2, 3, 4, 6)
    assert torch.allclose(layer(x)[1, 2], layer(x[1, 2]))
    assert layer(x[0, 0, 0]).shape == (10,)


def test_meta_device() -> None:
    layer = LoRALinear(nn.Linear(6, 10, device="meta"))
    assert layer.lora_A.is_meta and layer.weight.shape == (10, 6) and layer.merge_weights().weight.is_meta
    assert layer(torch.empty(3, 6, device="meta")).shape == (3, 10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 0}, "rank is a whole number"),
        ({"rank": 2.0}, "rank is a whole number"),
        ({"alpha": 0.0}, "alpha is a finite number"),
        ({"alpha": float("nan")}, "alpha is a finite number"),
        ({"dropout": 1.0}, "dropout lies in"),
    ],
)
def test_bad_options(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LoRALinear(nn.Linear(2, 2), **options)  # type: ignore[arg-type]  # Wrong on purpose.


def test_only_a_linear_layer_is_adapted_and_only_once() -> None:
    with pytest.raises(ValueError, match="got LayerNorm"):
        LoRALinear(nn.LayerNorm(3))  # type: ignore[arg-type]  # Wrong on purpose.
    with pytest.raises(ValueError, match="got LoRALinear"):
        LoRALinear(LoRALinear(nn.Linear(2, 2)))  # type: ignore[arg-type]  # Wrong on purpose.
