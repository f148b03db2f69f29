"""Checkpointed blocks: the same numbers from less memory."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from sam3d_objects.model.checkpointing import BLOCKS, checkpoint_blocks
from sam3d_objects.model.lora import inject_lora
from sam3d_objects.model.sparse import SparseTensor
from tests.model.sparse.shells import packed, sphere_shell
from tests.training.small_model import SIDE, WIDTH, small_latent_stage, small_model

Loss = Callable[[nn.Module], Tensor]
SHELLS = sphere_shell(SIDE, 5.0), sphere_shell(SIDE, 3.0)


def structure() -> tuple[nn.Module, Loss]:
    model = small_model()
    x = {name: torch.randn(2, *shape[1:]) for name, shape in model.latent_shapes(2).items()}
    condition = torch.randn(2, 5, WIDTH)

    def loss(network: nn.Module) -> Tensor:
        out = network(x, torch.tensor([300.0]), condition, torch.zeros(1))
        return torch.stack([value.square().mean() for value in out.values()]).sum()

    return model.structure_flow, loss


def voxels(features: Tensor) -> SparseTensor:
    """Features on two shells; the grid is new, and what is derived from it still to be made."""
    return SparseTensor(features, packed(*SHELLS))


def latent() -> tuple[nn.Module, Loss]:
    features, condition = torch.randn(sum(map(len, SHELLS)), 8), torch.randn(2, 5, WIDTH)
    time = torch.tensor([300.0])
    return small_latent_stage().flow, lambda network: network(voxels(features), time, condition).square().mean()


def decoder() -> tuple[nn.Module, Loss]:
    features = torch.randn(sum(map(len, SHELLS)), 8)
    # A mean keeps nothing for its backward pass.
    return small_latent_stage().mesh_decoder, lambda network: network(voxels(features)).features.mean()


def gradients(network: nn.Module, loss: Loss) -> dict[str, Tensor]:
    torch.manual_seed(3)  # of the dropout
    network.zero_grad()
    value = loss(network)
    value.backward()
    found = {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
    return found | {"loss": value.detach()}


def adapted(network: nn.Module) -> nn.Module:
    inject_lora(network, rank=2, dropout=0.5, seed=0)
    for name, parameter in network.named_parameters():
        if name.endswith("lora_B"):
            nn.init.normal_(parameter, generator=torch.Generator().manual_seed(len(name)))
    return network.train()


def saved_bytes(network: nn.Module, loss: Loss) -> int:
    """Bytes of the distinct tensors that the forward pass keeps for the backward pass, weights apart."""
    kept: dict[int, Tensor] = {}
    weights = {p.data_ptr() for p in network.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in weights:
            kept[tensor.data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss(network)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


@pytest.mark.parametrize(("make", "blocks"), [(structure, 2), (latent, 5), (decoder, 3)])
def test_gradients_are_the_same_to_the_last_bit(make: Callable[[], tuple[nn.Module, Loss]], blocks: int) -> None:
    network, loss = make()
    names = list(adapted(network).state_dict())
    plain = gradients(network, loss)
    assert checkpoint_blocks(network) == blocks
    again = gradients(network, loss)
    assert len(plain) > 4 and plain.keys() == again.keys()
    for name, value in plain.items():
        assert torch.equal(value, again[name]), name
    assert list(network.state_dict()) == names


@pytest.mark.parametrize("make", [structure, latent, decoder])
def test_less_is_kept_for_the_backward_pass(make: Callable[[], tuple[nn.Module, Loss]]) -> None:
    network, loss = make()
    plain = saved_bytes(adapted(network), loss)
    checkpoint_blocks(network)
    assert saved_bytes(network, loss) < 0.5 * plain


def calls(network: nn.Module, loss: Loss) -> int:
    """How often the first block's attention runs in a forward and, with gradients, a backward pass."""
    block = next(module for module in network.modules() if isinstance(module, BLOCKS) and hasattr(module, "self_attn"))
    count = 0

    def add(*_: object) -> None:
        nonlocal count
        count += 1

    handle = block.get_submodule("self_attn").register_forward_hook(add)
    value = loss(network)
    if value.requires_grad:
        value.backward()
    handle.remove()
    return count


def test_blocks_run_twice_in_training_only() -> None:
    network, loss = structure()
    adapted(network)
    assert calls(network, loss) == 1
    checkpoint_blocks(network)
    assert checkpoint_blocks(network) == 2  # a second call nests nothing
    assert calls(network, loss) == 2
    with torch.no_grad():
        assert calls(network, loss) == 1
    assert calls(network.eval(), loss) == 1


def test_a_copy_runs_its_own_weights() -> None:
    network, loss = structure()
    checkpoint_blocks(network.train())
    copied = copy.deepcopy(network)
    before = loss(network)
    with torch.no_grad():
        for parameter in copied.get_submodule("blocks").parameters():
            parameter.zero_()
    assert torch.equal(loss(network), before)
    assert not torch.equal(loss(copied), before)


def test_a_network_without_blocks_has_none() -> None:
    assert checkpoint_blocks(nn.Sequential(nn.Linear(2, 2))) == 0
