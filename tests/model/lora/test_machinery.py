"""Adapted layers under checkpointing, `torch.compile`, DDP and FSDP: the numbers of plain training."""

import copy
from pathlib import Path

import pytest
import torch
import torch.multiprocessing
from torch import Tensor, nn
from torch.distributed import destroy_process_group, init_process_group
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from sam3d_objects.model.lora import get_lora_params, inject_lora, lora_layers, use_adapter
from tests.model.lora.layer_kinds import KINDS, build

WORLD = 2


def network() -> nn.Module:
    """Linear layers, one with parts, a convolution, and an attention with its projection."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv1d(6, 6, 3, padding=1),
        nn.Linear(8, 8),
        nn.GELU(),
        nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True),
    )
    targets = ["0", "1", "3.linear?", "3.self_attn", "3.self_attn.out_proj"]
    inject_lora(model, targets, rank=2, seed=0, patterns={"3.linear1": {"parts": "ab"}})
    with torch.no_grad():
        for parameter in get_lora_params(model):
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(9)) * 0.2)
    return model


def batch() -> Tensor:
    return torch.randn(4, 6, 8, generator=torch.Generator().manual_seed(1))


def gradients(model: nn.Module, x: Tensor) -> list[Tensor]:
    model.zero_grad()
    model(x).square().mean().backward()
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("kind", KINDS)
def test_checkpointing_recomputes_the_same_gradients(kind: str) -> None:
    model, x = build(kind)
    inject_lora(model, "inner", rank=2, seed=0)
    if kind != "embedding":
        lora_layers(model)["inner"].lora_B.data.normal_()

    def through(recompute: bool) -> list[Tensor]:
        model.zero_grad()
        out = checkpoint(model, x, use_reentrant=False) if recompute else model(x)
        out.square().mean().backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    plain, recomputed = through(False), through(True)
    assert len(plain) == 2 and all(torch.equal(a, b) for a, b in zip(plain, recomputed, strict=True))


def test_the_fused_layer_has_the_gradients_of_its_formula() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4, dtype=torch.float64))
    inject_lora(model, "0", rank=2)
    layer = lora_layers(model)["0"]
    layer.lora_B.data.normal_()

    def call(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
        out = torch.func.functional_call(model, {"0.lora_A": a, "0.lora_B": b}, (x,))
        assert isinstance(out, Tensor)
        return out

    x = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(call, (x, layer.lora_A, layer.lora_B))


@pytest.mark.parametrize("shape", [(3, 5), (2, 3, 5), (2, 1, 3, 5), (0, 5), (2, 0, 5)])
def test_the_fused_layer_takes_any_leading_axes(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4, dtype=torch.float64))
    inject_lora(model, "0", rank=2, alpha=6.0)
    layer = lora_layers(model)["0"]
    layer.lora_B.data.normal_()
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    sources = (x, layer.lora_A, layer.lora_B)
    merged = layer.original_weight + 3 * layer.lora_B @ layer.lora_A
    expected = nn.functional.linear(x, merged, layer.bias)
    out = model(x)
    torch.testing.assert_close(out, expected)
    weights = torch.randn_like(out)
    found = torch.autograd.grad((out * weights).sum(), sources)
    for ours, formula in zip(found, torch.autograd.grad((expected * weights).sum(), sources), strict=True):
        torch.testing.assert_close(ours, formula)


def test_frozen_matrices_get_no_gradient_and_inputs_still_do() -> None:
    model = nn.Sequential(nn.Linear(5, 4))
    inject_lora(model, "0", rank=2)
    layer = lora_layers(model)["0"]
    layer.lora_A.requires_grad_(False)
    x = torch.randn(3, 5, requires_grad=True)
    model(x).sum().backward()
    assert layer.lora_A.grad is None and layer.lora_B.grad is not None and x.grad is not None


# torch.compile warns of its own use of deprecated functions.
@pytest.mark.filterwarnings("ignore")
def test_compiled_without_a_break() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 6), nn.GELU(), nn.Linear(6, 6, bias=False))
    inject_lora(model, "*", rank=2, seed=0)
    for parameter in get_lora_params(model):
        parameter.data.normal_()
    x = torch.randn(2, 3, 6)
    expected = gradients(model, x)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), model(x))
    for ours, plain in zip(gradients(compiled, x), expected, strict=True):  # type: ignore[arg-type]  # A module.
        torch.testing.assert_close(ours, plain)
    use_adapter(model, {})
    torch.testing.assert_close(compiled(x), model(x))


def _process(rank: int, folder: str) -> None:
    """Save what two processes get from half of the batch each: the mean gradients, by DDP and by FSDP."""
    torch.set_num_threads(1)
    init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=WORLD)
    x = batch().chunk(WORLD)[rank]
    model = network()
    distributed = DistributedDataParallel(copy.deepcopy(model))
    ddp = gradients(distributed, x)
    for layer in model.children():
        fully_shard(layer)
    fully_shard(model)
    fsdp = [gradient.full_tensor() for gradient in gradients(model, x)]  # type: ignore[attr-defined]  # DTensors.
    if rank == 0:
        torch.save({"ddp": ddp, "fsdp": fsdp}, Path(folder) / "gradients.pt")
    destroy_process_group()


def test_two_processes_train_as_one_does(tmp_path: Path) -> None:
    if not torch.distributed.is_available():
        pytest.skip("this torch has no torch.distributed")
    torch.multiprocessing.spawn(_process, (str(tmp_path),), nprocs=WORLD)
    found = torch.load(tmp_path / "gradients.pt", weights_only=True)
    expected = gradients(network(), batch())
    for way in ("ddp", "fsdp"):
        assert len(found[way]) == len(expected) == 12
        for ours, plain in zip(found[way], expected, strict=True):
            torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-6)
