"""Golden vectors: small instances with seeded weights, their inputs, and what the released software makes of them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from sam3d_objects.model.structure.flow import StructureFlow
from sam3d_objects.model.structure.latent import Latent, LearntPositionEmbedder, ShapePositionEmbedder

MAX_ABSOLUTE = 1e-4
MAX_RELATIVE = 1e-5
SHAPE_SIDE = 4  # of the flow's latent cube in its golden instance: 64 tokens


@dataclass(frozen=True)
class Golden:
    """One golden set; `state` is empty where the module has no weights."""

    meta: dict[str, Any]
    state: dict[str, Tensor]
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]

    def load_into(self, module: nn.Module) -> None:
        """Fill a module with the golden weights, strictly, for inference without dropout."""
        module.load_state_dict(self.state)
        module.eval()


def load_golden(reference: Path, name: str) -> Golden:
    """Read one golden set."""
    folder = reference / "golden" / name
    tensors = [folder / f"{part}.safetensors" for part in ("state", "inputs", "outputs")]
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    return Golden(meta, *(load_file(path) if path.is_file() else {} for path in tensors))


def under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix`, without it."""
    return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}


def assert_parity(found: Tensor, expected: Tensor, where: str = "") -> None:
    """Same shape and NaNs, max |a - b| <= 1e-4, ||a - b|| / ||b|| <= 1e-5; an expected zero must be one."""
    assert found.shape == expected.shape, f"{where}: {tuple(found.shape)} instead of {tuple(expected.shape)}"
    assert torch.equal(found.isnan(), expected.isnan()), f"{where}: NaN elsewhere"
    a, b = found.detach().double().nan_to_num(), expected.double().nan_to_num()
    absolute = float((a - b).abs().max())
    assert absolute <= MAX_ABSOLUTE, f"{where}: max |a - b| = {absolute}"
    assert float((a - b).norm()) <= MAX_RELATIVE * float(b.norm()), f"{where}: {a.flatten()[:4]} {b.flatten()[:4]}"


def doubled(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with floats as float64."""
    return {name: value.double() if value.is_floating_point() else value for name, value in tensors.items()}


def golden_flow(golden: Golden) -> StructureFlow:
    """The structure flow of the golden set `mot_ss_flow`, with its weights."""
    channels = golden.meta["args"]["model_channels"]
    latents = {
        name: Latent(
            width,
            channels,
            ShapePositionEmbedder(channels, SHAPE_SIDE)
            if name == "shape"
            else LearntPositionEmbedder(channels, position_shape[0]),
        )
        for name, (width, position_shape) in golden.meta["latent_mapping"].items()
    }
    flow = StructureFlow(latents, golden.meta["latent_share_transformer"], **golden.meta["args"])
    golden.load_into(flow)
    return flow


class ToyVelocity:
    """The toy network of the golden sets `sampler` and `training_loss`, which notes how it is called.

    v_k = tanh(x_k W_k^T + a_k t / 1000 + b_k d / 1000 + U_k mean(condition)).
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self.weights = dict(weights)
        self.calls: list[list[Any]] = []

    def __call__(self, x: dict[str, Tensor], t: Tensor, condition: Tensor, d: Tensor | None) -> dict[str, Tensor]:
        assert d is not None
        self.calls.append([t.tolist(), d.tolist(), bool((condition == 0).all())])
        mean = condition.mean(dim=1)
        out = {}
        for name, value in x.items():
            w, a, b, u = (self.weights[f"{part}_{toy_name(name)}"] for part in "WabU")
            time = a * t[:, None, None] / 1000 + b * d[:, None, None] / 1000
            out[name] = torch.tanh(value @ w.T + time + (mean @ u.T)[:, None])
        return out


def toy_name(latent: str) -> str:
    """Parameter names cannot begin with a digit."""
    return latent.replace("6d", "sixd")
