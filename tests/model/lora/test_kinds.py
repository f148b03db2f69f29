"""Every kind of layer, every option: fresh is the base, merged is the adapted, taken out is the base again."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import nn

from sam3d_objects.model.lora import (
    LayerOptions,
    LoRAConv,
    LoRAEmbedding,
    LoRALinear,
    LoRAMultiheadAttention,
    base_state_dict,
    inject_lora,
    lora_layers,
    merge_lora_weights,
    merged_model,
    movement,
    tensor_digests,
    unmerge_lora_weights,
)
from sam3d_objects.model.lora.options import LAYER_KEYS
from tests.model.lora.layer_kinds import KINDS, build

OPTIONS: dict[str, dict[str, object]] = {
    "plain": {},
    "rslora": {"rslora": True},
    "gaussian": {"init": "gaussian"},
    "dora": {"dora": True},
    "pissa": {"init": "pissa"},
    "dora and pissa": {"init": "pissa", "dora": True},
    "parts": {"parts": "q_v"},
    "parts of pissa": {"parts": "_kv", "init": "pissa"},
}
REFUSED = {("embedding", "dora"), ("embedding", "dora and pissa"), ("conv2d of groups", "parts")}
REFUSED |= {("conv2d of groups", "parts of pissa")}


def cases() -> list[tuple[str, str]]:
    """Every kind with every option that it has."""
    return [(kind, option) for kind in KINDS for option in OPTIONS if (kind, option) not in REFUSED]


def adapt(kind: str, option: str) -> tuple[nn.Module, object]:
    model, x = build(kind)
    inject_lora(model, "inner", rank=2, alpha=3.0, seed=0, patterns={"inner": OPTIONS[option]})
    return model, x


def move(model: nn.Module) -> None:
    """Values of ordinary size, as if it had been trained."""
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)


@pytest.mark.parametrize(("kind", "option"), cases())
def test_fresh_is_the_base_and_merged_is_adapted_and_unmerged_is_the_base(kind: str, option: str) -> None:
    base, x = build(kind)
    # PyTorch multiplies a view in another order where the weight trains, as the sum in an attention does.
    expected = base.requires_grad_("attention" in kind)(x)
    model, _ = adapt(kind, option)
    fresh = model(x)
    if "pissa" in option:  # What it starts with is subtracted again, which rounds.
        torch.testing.assert_close(fresh, expected, rtol=1e-5, atol=1e-6)
    else:
        assert torch.equal(fresh, expected)
    move(model)
    adapted = model(x)
    assert (adapted - expected).abs().max() > 0.01
    merged = merged_model(model)
    assert [type(module) for module in merged.modules()] == [type(module) for module in base.modules()]
    torch.testing.assert_close(merged(x), adapted, rtol=1e-5, atol=1e-5)
    before = tensor_digests(model)
    merge_lora_weights(model, keep=True)
    assert torch.equal(model(x), merged(x)) and model.state_dict().keys() == base.state_dict().keys()
    unmerge_lora_weights(model)
    assert tensor_digests(model) == before and torch.equal(model(x), adapted)
    recovered = base_state_dict(model)
    assert recovered.keys() == base.state_dict().keys()
    assert all(torch.equal(recovered[name], tensor) for name, tensor in base.state_dict().items())


@pytest.mark.parametrize(("kind", "option"), cases())
def test_two_steps_move_every_tensor_of_the_adapter_and_nothing_else(kind: str, option: str) -> None:
    model, x = adapt(kind, option)
    before = tensor_digests(model)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        (model(x) - 1).square().mean().backward()
        optimizer.step()
    movement(before, model).require()
    leaves = {name.rpartition(".")[2] for name, p in model.named_parameters() if p.requires_grad}
    assert leaves == {"lora_A", "lora_B"} | ({"lora_magnitude"} if "dora" in option else set())


@pytest.mark.parametrize("kind", KINDS)
def test_a_bfloat16_base_and_autocast_keep_their_types(kind: str) -> None:
    model, x = adapt(kind, "plain")
    move(model)
    exact = model(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        plain, _ = build(kind)
        out = model(x)
        assert out.dtype == plain(x).dtype
    assert (out.float() - exact).abs().max() < 0.05 * exact.abs().max()
    out.float().sum().backward()
    for parameter in model.parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.dtype == torch.float32
    half = build(kind)[0].bfloat16()
    inject_lora(half, "inner", rank=2)
    layer = lora_layers(half)["inner"]
    assert layer.lora_A.dtype == layer.lora_B.dtype == torch.float32


@pytest.mark.parametrize("kind", KINDS)
def test_scaling_by_the_root_of_the_rank(kind: str) -> None:
    """With rsLoRA the update is sqrt(r) times that of LoRA for the same matrices."""
    plain, _ = adapt(kind, "plain")
    rooted, _ = adapt(kind, "rslora")
    for model in (plain, rooted):
        move(model)
    one, other = lora_layers(plain)["inner"], lora_layers(rooted)["inner"]
    assert other.scaling == pytest.approx(one.scaling * math.sqrt(2)) == 3.0 / math.sqrt(2)
    update = other.weight - other.original_weight
    torch.testing.assert_close(update, math.sqrt(2) * (one.weight - one.original_weight), rtol=1e-4, atol=1e-5)


def test_parts_leave_the_other_rows_alone_and_share_nothing() -> None:
    layer = LoRALinear(nn.Linear(4, 12, bias=False), rank=1, alpha=1.0, parts="q_v")
    assert layer.lora_A.shape == (2, 4) and layer.lora_B.shape == (8, 1)
    with torch.no_grad():
        layer.lora_A.copy_(torch.tensor([[1.0, 0, 0, 0], [0, 1.0, 0, 0]]))
        layer.lora_B.fill_(2.0)
    update = layer.weight - layer.original_weight
    expected = torch.zeros(12, 4)
    expected[:4, 0] = 2.0  # q sees the first feature alone,
    expected[8:, 1] = 2.0  # v the second, and k nothing.
    torch.testing.assert_close(update, expected)


def test_pissa_starts_with_the_largest_singular_triplets() -> None:
    linear = nn.Linear(5, 4)
    layer = LoRALinear(linear, rank=4, alpha=8.0, init="pissa")
    whole = layer.scaling * layer.lora_B @ layer.lora_A
    torch.testing.assert_close(whole, linear.weight, rtol=1e-5, atol=1e-6)
    values = torch.linalg.svdvals(linear.weight)
    first = LoRALinear(linear, rank=1, alpha=1.0, init="pissa")
    torch.testing.assert_close(torch.linalg.matrix_norm(first.lora_B @ first.lora_A, 2), values[0])
    with pytest.raises(ValueError, match="PiSSA of rank 5 needs a weight of at least that rank, got 4 x 5"):
        LoRALinear(linear, rank=5, init="pissa")


def test_dora_keeps_the_length_of_every_row_but_for_its_magnitude() -> None:
    layer = LoRALinear(nn.Linear(6, 3), rank=2, dora=True)
    move(layer)
    lengths = torch.linalg.vector_norm(layer.weight, dim=1)
    torch.testing.assert_close(lengths, layer.get_parameter("lora_magnitude"), rtol=1e-5, atol=1e-6)


def test_what_a_kind_can_not_do_is_refused_and_nothing_changes() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.MultiheadAttention(4, 2))
    with pytest.raises(ValueError, match=r"1: nn\.MultiheadAttention has no LoRA dropout"):
        inject_lora(model, "*", dropout=0.1)
    assert not lora_layers(model) and all(p.requires_grad for p in model.parameters())
    with pytest.raises(ValueError, match="has no packed projection"):
        LoRAMultiheadAttention(nn.MultiheadAttention(4, 2, kdim=3))
    with pytest.raises(ValueError, match="no DoRA"):
        LoRAEmbedding(nn.Embedding(3, 4), LayerOptions(dora=True))
    with pytest.raises(ValueError, match="max_norm rewrites"):
        LoRAEmbedding(nn.Embedding(3, 4, max_norm=1.0))
    with pytest.raises(ValueError, match="need a convolution of one group"):
        LoRAConv(nn.Conv2d(4, 4, 1, groups=2), LayerOptions(parts="ab"))
    with pytest.raises(ValueError, match="a multiple of 3 rows, not 4"):
        LoRALinear(nn.Linear(4, 4), parts="qkv")
    wrong: tuple[dict[str, Any], ...] = ({"init": "zeros"}, {"parts": "__"}, {"dora": 1}, {"rslora": "yes"})
    for bad in wrong:
        with pytest.raises(ValueError, match=r"LoRA (init|parts|dora|rslora)"):
            LayerOptions(**bad)


def test_the_padding_vector_of_an_embedding_does_not_train() -> None:
    model, x = adapt("embedding", "plain")
    model(x).sum().backward()
    gradient = lora_layers(model)["inner"].lora_A.grad
    assert gradient is not None and not gradient[:, 0].any() and bool(gradient[:, 1:].any())


def test_attention_and_its_output_projection_are_adapted_side_by_side() -> None:
    """Also inside PyTorch's encoder layer, whose fast path in eval mode reads weights and calls no layer."""
    torch.manual_seed(0)
    encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    x = torch.randn(2, 3, 8)
    expected = copy.deepcopy(encoder)(x)
    assert inject_lora(encoder, ["self_attn", "self_attn.out_proj", "linear1"], rank=2) == 3
    assert isinstance(encoder.self_attn, nn.MultiheadAttention)
    torch.testing.assert_close(encoder(x), expected)
    move(encoder)
    slow = encoder(x)
    with torch.no_grad():
        torch.testing.assert_close(encoder(x), slow, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(slow, expected)
    merged = merged_model(encoder)
    torch.testing.assert_close(merged(x), slow, rtol=1e-4, atol=1e-5)
    assert type(merged.get_submodule("self_attn.out_proj")) is type(nn.MultiheadAttention(4, 2).out_proj)
    names = nn.TransformerEncoderLayer(8, 2, 16).state_dict().keys()
    assert merged.state_dict().keys() == names == base_state_dict(encoder).keys()
    merge_lora_weights(encoder, keep=True)
    unmerge_lora_weights(encoder)
    assert torch.equal(encoder(x), slow)


def test_what_reads_the_base_through_an_adapted_layer_finds_it() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 2, stride=2), nn.Embedding(5, 6))
    inject_lora(model, "*", rank=1)
    assert model[0].stride == (2, 2) and model[0].weight.shape == (4, 3, 2, 2) and model[1].embedding_dim == 6
    with pytest.raises(AttributeError, match="nothing_like_it"):
        _ = model[0].nothing_like_it


def test_options_round_trip_through_plain_values() -> None:
    for options in (LayerOptions(), LayerOptions(3, 1.5, 0.1), LayerOptions(2, 4.0, 0.0, True, "pissa", True, "q_v")):
        assert LayerOptions.from_list(options.to_list()) == options
    assert LayerOptions(3, 1.5, 0.1).to_list() == [3, 1.5, 0.1], "as older folders have them"
    assert LAYER_KEYS[:3] == ("rank", "alpha", "dropout")
    with pytest.raises(ValueError, match="rank, alpha, dropout and maybe"):
        LayerOptions.from_list([1, 2.0])
