"""Base, adapted and merged models, loaded strictly and put together for the commands."""

import copy
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam3d_objects.config import EvaluateOptions, ReconstructOptions

if TYPE_CHECKING:
    from torch import nn

    from sam3d_objects.adapter import AdapterRecord, InferenceContract
    from sam3d_objects.model import SAM3DObjects
    from sam3d_objects.volume import SliceInput

# Merged equals adapted: max |a - b| <= 1e-5 max |a| on the network's float32 output.
MERGE_TOLERANCE = 1e-5
# The option `stages` -> the halves of the model that it needs.
LOADED = {"both": ("structure", "latent"), "structure": ("structure",)}
_FROM_CONTRACT = ("samples", "steps", "guidance", "threshold", "fit")


@dataclass(frozen=True)
class Models:
    """One base model thrice: as it is, with the adapter, and with the adapter merged.

    The frozen parts are shared; `contract` says how all three are used.
    """

    base: "SAM3DObjects"
    adapted: "SAM3DObjects"
    merged: "SAM3DObjects"
    record: "AdapterRecord"
    contract: "InferenceContract"


def load_adapted(checkpoint: Path, options: ReconstructOptions) -> "tuple[SAM3DObjects, InferenceContract]":
    """Load a base model with its adapter, strictly, and how it is used.

    Raises:
        ValueError: the adapter is damaged, or of another base; the device is not there.
    """
    from sam3d_objects.adapter import load_adapter, read_adapter
    from sam3d_objects.model import load_model

    record = read_adapter(checkpoint)
    device = torch_device(options.device)
    model = load_model(options.base, device, options.dtype, LOADED[options.stages], options.offload)
    load_adapter(checkpoint, model.structure_flow, base_fingerprint=model.fingerprint)
    model.eval().requires_grad_(False)
    return model, use_contract(record.meta.contract, options)


def load_models(base: str, checkpoint: Path, options: EvaluateOptions) -> Models:
    """Load a base model thrice, strictly: without an adapter, with it, and with it merged.

    Raises:
        ValueError: the adapter is damaged, or of another base; the device is not there.
    """
    from sam3d_objects.adapter import load_adapter, read_adapter
    from sam3d_objects.model import load_model
    from sam3d_objects.model.lora import merged_model

    record = read_adapter(checkpoint)
    plain = load_model(base, device=torch_device(options.device), stages=LOADED[options.stages])
    flow = copy.deepcopy(plain.structure_flow)
    load_adapter(checkpoint, flow, base_fingerprint=plain.fingerprint)
    flow.eval().requires_grad_(False)
    contract = use_contract(record.meta.contract, options)
    return Models(plain, with_flow(plain, flow), with_flow(plain, merged_model(flow)), record, contract)


def use_contract(contract: "InferenceContract", options: EvaluateOptions | ReconstructOptions) -> "InferenceContract":
    """Return the adapter's contract with what the options say otherwise."""
    given = {name: getattr(options, name) for name in _FROM_CONTRACT}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return dataclasses.replace(contract, **changes)


def with_flow(model: "SAM3DObjects", flow: "nn.Module") -> "SAM3DObjects":
    """Return a model that shares all but its structure flow."""
    from sam3d_objects.model import SAM3DObjects
    from sam3d_objects.model.structure.flow import StructureFlow

    assert isinstance(flow, StructureFlow)
    return SAM3DObjects(
        model.condition_embedder,
        flow,
        model.structure_encoder,
        model.structure_decoder,
        model.settings,
        model.name,
        model.fingerprint,
        model.latent,
    )


def merge_difference(models: Models, slice: "SliceInput") -> float:
    """Return max |a - b| / max |a| of the adapted and the merged flow's float32 outputs, on a real slice.

    Both are called with the inputs that the first step of a reconstruction has.

    Raises:
        ValueError: it is above `MERGE_TOLERANCE`, so the merged model is not the adapted one.
    """
    import torch

    from sam3d_objects.reconstruct import Reconstructor

    calls: list[tuple[Any, Any]] = []
    hook = models.adapted.structure_flow.register_forward_pre_hook(
        lambda module, positional, named: calls.append((positional, named)), with_kwargs=True
    )
    one_sample = dataclasses.replace(models.contract, samples=1, fit=False)
    Reconstructor(models.adapted, one_sample, "structure").samples(slice, 0)
    hook.remove()
    positional, named = calls[0]
    with torch.no_grad():
        ours = models.adapted.structure_flow(*positional, **named)
        theirs = models.merged.structure_flow(*positional, **named)
    largest = max(float(value.abs().max()) for value in ours.values())
    apart = max(float((ours[name] - theirs[name]).abs().max()) for name in ours)
    if not apart <= MERGE_TOLERANCE * largest:
        raise ValueError(
            f"the merged model is not the adapted one: outputs differ by {apart / largest:.3g} of the largest, "
            f"expected at most {MERGE_TOLERANCE:g}; train or merge the adapter again"
        )
    return apart / largest


def torch_device(device: str) -> str:
    """Return torch's name of the device that a person asked for; loading a model finds out whether it is there."""
    import torch

    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"
