"""The dense networks as functions of plain tensors, which torch.export and ONNX can hold.

The latent stage's networks work on sparse voxels, whose number depends on their input; they are not exported.

Letters: B batch, S image side, T tokens, C channels, R grid side.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sam3d_objects.model import SAM3DObjects
from sam3d_objects.model.condition.pointmap import PointPatchEmbed
from sam3d_objects.model.structure.patches import unpatchify

CONDITION, FLOW, DECODER = "condition_embedder", "structure_flow", "structure_decoder"
DENSE = (CONDITION, FLOW, DECODER)
_CHANNELS = {"mask": 1, "rgb_image_mask": 1}
_COLOURS = 3


@dataclass(frozen=True)
class DenseNetwork:
    """One network as it is exported.

    Attributes:
        name: one of `DENSE`.
        module: takes one tensor for each of `inputs`, in order, and returns a tensor or a tuple, one for each of
            `outputs`.
        shapes: input -> its shape with a batch of 1.
        shared: the inputs without a batch: one value for all of it.
        outputs: their names.
    """

    name: str
    module: nn.Module
    shapes: dict[str, tuple[int, ...]]
    shared: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def inputs(self) -> tuple[str, ...]:
        """Their names in order."""
        return tuple(self.shapes)

    def example(self, batch: int, seed: int = 0) -> tuple[Tensor, ...]:
        """Return inputs of ordinary size on the CPU, the same for a seed."""
        generator = torch.Generator().manual_seed(seed)
        made = []
        for name, shape in self.shapes.items():
            size = shape if name in self.shared else (batch, *shape[1:])
            made.append(torch.rand(size, generator=generator) * (1000 if name in self.shared else 1))
        return tuple(made)


def dense_network(model: SAM3DObjects, name: str) -> DenseNetwork:
    """Return one of a model's dense networks, merged or not, on the CPU in evaluation mode.

    - `condition_embedder`: the prepared inputs of `model.condition_inputs`, (B, 1 or 3, S, S) -> `tokens` (B, T, C);
      nothing is dropped.
    - `structure_flow`: `t` and, in shortcut models, `d` (1,), both times 1000, `condition` (B, T, C), then each latent
      (B, t, c) -> `NAME_velocity` of each latent.
    - `structure_decoder`: `shape` tokens (B, t, c) -> `occupancy` logits (B, 1, R, R, R).

    Raises:
        ValueError: no such network.
    """
    if name not in DENSE:
        raise ValueError(f"the dense networks are {', '.join(DENSE)}; got {name!r}")
    if name == CONDITION:
        side = model.settings.image_size
        inputs = model.condition_embedder.input_names
        image: dict[str, tuple[int, ...]] = {key: (1, _CHANNELS.get(key, _COLOURS), side, side) for key in inputs}
        return DenseNetwork(name, _Embedder(model, side).eval(), image, (), ("tokens",))
    latents = model.latent_shapes(1)
    if name == DECODER:
        return DenseNetwork(name, _Decoder(model).eval(), {"shape": latents["shape"]}, (), ("occupancy",))
    flow = model.structure_flow
    times: dict[str, tuple[int, ...]] = {"t": (1,)}
    if flow.d_embedder is not None:
        times["d"] = (1,)
    condition = (1, _token_count(model), model.condition_embedder.embed_dim)
    shapes = {**times, "condition": condition, **{key: latents[key] for key in flow.latent_names}}
    velocities = tuple(f"{key}_velocity" for key in flow.latent_names)
    return DenseNetwork(name, _Flow(model).eval(), shapes, tuple(times), velocities)


class _Embedder(nn.Module):
    def __init__(self, model: SAM3DObjects, side: int) -> None:
        super().__init__()
        self.network, self.names = model.condition_embedder, model.condition_embedder.input_names
        self.picks: dict[str, Tensor] = {}
        for embedder, wanted in zip(self.network.module_list, self.network.inputs, strict=True):
            if isinstance(embedder, PointPatchEmbed):
                self.picks |= {name: nearest_index(side, embedder.input_size) for name, _ in wanted}

    def forward(self, *inputs: Tensor) -> Tensor:
        given = dict(zip(self.names, inputs, strict=True))
        for name, index in self.picks.items():
            # ONNX rounds the places of nearest neighbours otherwise than torch; picked here, nothing is left to round.
            given[name] = given[name].index_select(-2, index).index_select(-1, index)
        return self.network(given, dropped=())


class _Flow(nn.Module):
    def __init__(self, model: SAM3DObjects) -> None:
        super().__init__()
        self.network, self.shortcut = model.structure_flow, model.structure_flow.d_embedder is not None

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        t, *rest = inputs
        d = rest.pop(0) if self.shortcut else None
        condition, *latents = rest
        out = self.network(dict(zip(self.network.latent_names, latents, strict=True)), t, condition, d)
        return tuple(out[name] for name in self.network.latent_names)


class _Decoder(nn.Module):
    def __init__(self, model: SAM3DObjects) -> None:
        super().__init__()
        self.network, self.patch = model.structure_decoder, model.settings.patch

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.network(unpatchify(inputs[0], self.patch)).float()


def nearest_index(side: int, target: int) -> Tensor:
    """Return which of `side` pixels torch's nearest interpolation picks for each of `target`, int64."""
    places = torch.arange(side, dtype=torch.float32)[None, None]
    return nn.functional.interpolate(places, size=target, mode="nearest")[0, 0].long()


def _token_count(model: SAM3DObjects) -> int:
    embedder = dense_network(model, CONDITION)
    with torch.no_grad():
        return int(embedder.module(*embedder.example(1)).shape[1])


def outputs_of(module: nn.Module, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Run a module on tensors, without gradients, and return its outputs as a tuple."""
    with torch.no_grad():
        out = module(*inputs)
    return out if isinstance(out, tuple) else (out,)
