"""Adapters small enough to be worked by hand."""

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from sam3d_objects.adapter.exchange import AdapterParameters, Key, Layer, Manifest
from sam3d_objects.arrays import AnyArray
from sam3d_objects.model.lora import freeze_base_params, inject_lora, unfreeze

BASE = "fingerprint-of-the-base"
NAMES = ("layer.lora_A", "layer.lora_B", "head.weight")


class Small(nn.Module):
    """A layer to be adapted, and a head that trains fully."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(5, 4), nn.Linear(4, 2, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layer(x))


def small(rank: int = 2, alpha: float = 4.0, seed: int = 0) -> Small:
    """A model with an adapter, alike for one seed."""
    torch.manual_seed(7)
    model = Small()
    inject_lora(model, ["layer"], rank, alpha, seed=seed)
    freeze_base_params(model)
    unfreeze(model, ["head"])
    return model


def by_hand(a: npt.ArrayLike, b: npt.ArrayLike, head: npt.ArrayLike, samples: int = 1) -> AdapterParameters:
    """The parameters of one adapted layer and a head."""
    arrays = tuple(np.asarray(x, np.float32) for x in (a, b, head))
    keys = tuple(Key(name, array.shape, "float32") for name, array in zip(NAMES, arrays, strict=True))
    return AdapterParameters(Manifest(BASE, keys, {"layer": Layer(arrays[0].shape[0], 2.0)}), arrays, samples)


def drawn(seed: int, rank: int = 2, shape: tuple[int, int] = (4, 5), samples: int = 1) -> AdapterParameters:
    """Random values."""
    generator = np.random.default_rng(seed)
    m, k = shape
    return by_hand(
        generator.normal(size=(rank, k)), generator.normal(size=(m, rank)), generator.normal(size=(2, 4)), samples
    )


def product(parameters: AdapterParameters) -> AnyArray:
    """B A, in float64."""
    arrays = parameters.by_name
    return arrays["layer.lora_B"].astype(np.float64) @ arrays["layer.lora_A"].astype(np.float64)
