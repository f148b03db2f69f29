"""The proof that merged adapters do what they did: both models' networks on the same inputs, of a real slice."""

import dataclasses
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sam3d_objects.mesh import Mesh, ObjectFrame, occupancy_grid
from sam3d_objects.model.latent.voxels import latent_voxels
from sam3d_objects.model.sampler import TIME_SCALE
from sam3d_objects.model.sparse import SparseGrid, SparseTensor
from sam3d_objects.model.stages import DECODER, LATENT, STRUCTURE, adapted_module
from sam3d_objects.reconstruct import Reconstructor
from sam3d_objects.volume import SliceInput

if TYPE_CHECKING:
    from .models import Models

# Merged equals adapted: max |a - b| <= 1e-5 max |a| on the network's float32 output.
MERGE_TOLERANCE = 1e-5
_TIME = 0.5


@torch.no_grad()
def merge_difference(models: "Models", slice: SliceInput, organ: Mesh) -> float:
    """Return the largest max |a - b| / max |a| of an adapted and the merged network's float32 outputs.

    The structure flow gets what the first step of a reconstruction gives it; the latent flow and the mesh decoder get
    noise on the voxels of the organ's surface, and the slice's condition.

    Args:
        slice: what a reconstruction sees.
        organ: a closed surface, patient mm.

    Raises:
        ValueError: it is above `MERGE_TOLERANCE`, so the merged model is not the adapted one; the stage is named.
    """
    largest = 0.0
    for stage in models.adapters.stages:
        inputs = _structure_inputs(models, slice) if stage == STRUCTURE else _latent_inputs(models, stage, slice, organ)
        ours, theirs = (_outputs(adapted_module(model, stage), inputs) for model in (models.adapted, models.merged))
        size = max(float(value.abs().max()) for value in ours)
        apart = max(float((a - b).abs().max()) for a, b in zip(ours, theirs, strict=True)) / size
        if not apart <= MERGE_TOLERANCE:
            raise ValueError(
                f"the merged model is not the adapted one: outputs of the stage {stage} differ by {apart:.3g} of the "
                f"largest, expected at most {MERGE_TOLERANCE:g}; train or merge the adapter again"
            )
        largest = max(largest, apart)
    return largest


def _structure_inputs(models: "Models", slice: SliceInput) -> tuple[Any, Any]:
    calls: list[tuple[Any, Any]] = []
    hook = models.adapted.structure_flow.register_forward_pre_hook(
        lambda module, positional, named: calls.append((positional, named)), with_kwargs=True
    )
    one_sample = dataclasses.replace(models.contract, samples=1, fit=False)
    Reconstructor(models.adapted, one_sample, "structure").samples(slice, 0)
    hook.remove()
    return calls[0]


def _latent_inputs(models: "Models", stage: str, slice: SliceInput, organ: Mesh) -> tuple[Any, Any]:
    model = models.adapted
    latent, device = model.latent_stage, model.device
    frame = ObjectFrame.from_points(organ.vertices)
    inside = Mesh(frame.to_object(organ.vertices), organ.faces)
    shares, touched = (occupancy_grid(inside, latent.mesh_decoder.resolution, kind) for kind in ("solid", "surface"))
    grid = SparseGrid(latent_voxels(shares, touched, model.settings.occupancy)[0].to(device), 1)
    noise = torch.randn(len(grid), latent.flow.in_channels, generator=torch.Generator().manual_seed(0)).to(device)
    if stage == DECODER:
        return (SparseTensor(noise * latent.std + latent.mean, grid),), {}
    assert stage == LATENT
    inputs = Reconstructor(model, models.contract).condition_inputs(slice).tensors
    condition = latent.embed({name: value[None].to(device) for name, value in inputs.items()})
    return (SparseTensor(noise, grid), torch.full((1,), _TIME * TIME_SCALE, device=device), condition), {}


def _outputs(module: nn.Module, inputs: tuple[Any, Any]) -> list[Tensor]:
    positional, named = inputs
    out = module(*positional, **named)
    if isinstance(out, SparseTensor):
        return [out.features]
    return [out] if isinstance(out, Tensor) else [out[name] for name in sorted(out)]
