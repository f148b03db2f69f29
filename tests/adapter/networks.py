"""Small real networks, each with inputs: ours of every stage, and one of transformers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sam3d_objects.model.sparse import SparseGrid, SparseTensor
from sam3d_objects.model.stages import adapted_module
from tests.training.small_model import SIDE, WIDTH, whole_model


@dataclass(frozen=True)
class Network:
    """How a network is made (the same weights each time), what is adapted and trained of it, and what it is given."""

    make: Callable[[], nn.Module]
    targets: str
    trained: str
    inputs: Callable[[], tuple[Any, ...]]

    def outputs(self, module: nn.Module) -> list[Tensor]:
        """What a module of this kind returns, as tensors in order."""
        with torch.no_grad():
            out = module.eval()(*self.inputs())
        if isinstance(out, SparseTensor):
            return [out.features]
        if isinstance(out, dict):
            values = [out[name] for name in sorted(out)]
            return [value for value in values if isinstance(value, Tensor)]
        return [out]


def vit() -> nn.Module:
    """A ViT of transformers for three classes."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    torch.manual_seed(3)
    config = transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=16,
        patch_size=8,
        num_labels=3,
    )
    return transformers.ViTForImageClassification(config).eval()


def stage(name: str) -> Callable[[], nn.Module]:
    """The module that a stage adapts."""
    return lambda: adapted_module(whole_model(latent_side=8), name).eval()


def _voxels() -> SparseGrid:
    axis = torch.arange(3)
    cube = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1).reshape(-1, 3)
    return SparseGrid(torch.cat([torch.zeros(len(cube), 1, dtype=torch.int64), cube], dim=1).int())


def _random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def _sparse() -> SparseTensor:
    grid = _voxels()
    return SparseTensor(_random(len(grid), 8), grid)


def _structure_inputs() -> tuple[Any, ...]:
    shapes = whole_model(latent_side=8).latent_shapes(2)
    return {n: _random(*s) for n, s in shapes.items()}, torch.tensor([300.0]), _random(2, 5, WIDTH), torch.tensor([0.0])


NETWORKS = {
    "structure flow": Network(stage("structure"), "re:.*to_(qkv|q|kv|out).*", "*.out_layer", _structure_inputs),
    "latent flow": Network(
        stage("latent"),
        "re:.*(to_(qkv|q|kv|out)|mlp.mlp.[02])",
        "out_layer",
        lambda: (_sparse(), torch.tensor([300.0]), _random(1, 5, WIDTH)),
    ),
    "mesh decoder": Network(stage("decoder"), "re:.*to_(qkv|out)", "out_layer", lambda: (_sparse(),)),
    "transformers ViT": Network(
        vit, "re:.*attention.*(q_proj|query|value|v_proj)", "classifier", lambda: (_random(2, 3, 16, 16),)
    ),
}
assert SIDE == 16
