"""Base, adapted and merged models, loaded strictly and put together for the commands."""

import copy
import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam3d_objects.config import EvaluateOptions, ReconstructOptions

if TYPE_CHECKING:
    from torch import nn

    from sam3d_objects.adapter import AdapterSet, InferenceContract
    from sam3d_objects.model import SAM3DObjects

# The option `stages` -> the halves of the model that it needs.
LOADED = {"both": ("structure", "latent"), "structure": ("structure",)}
_FROM_CONTRACT = ("samples", "steps", "guidance", "threshold", "fit")


@dataclass(frozen=True)
class Models:
    """One base model thrice: as it is, with the adapters, and with them merged.

    The frozen parts are shared; `contract` says how all three are used, but that the base was trained with each slice's
    own scene scale.
    """

    base: "SAM3DObjects"
    adapted: "SAM3DObjects"
    merged: "SAM3DObjects"
    adapters: "AdapterSet"
    contract: "InferenceContract"

    def contract_of(self, name: str) -> "InferenceContract":
        """Return how one of the three is used: `base`, `adapted` or `merged`."""
        return self.contract.of_base() if name == "base" else self.contract


def chosen_adapters(checkpoint: Path, options: EvaluateOptions | ReconstructOptions) -> "AdapterSet":
    """Read the adapters of a checkpoint, of any stage or of several, and keep those that are asked for.

    Raises:
        ValueError: an adapter is damaged, a stage that is asked for is not adapted, or the structure alone is to make
            the mesh and its stage is not adapted.
    """
    from sam3d_objects.adapter import read_adapter_set

    adapters = read_adapter_set(checkpoint)
    wanted = options.use_stages or adapters.stages
    if options.stages == "structure":
        if "structure" not in wanted:
            raise ValueError(
                f"--stages structure leaves the latent stage out, and of {checkpoint} it would use the adapters of "
                f"{', '.join(wanted)} only; take --stages both"
            )
        wanted = ("structure",)
    return adapters.only(wanted)


def load_adapted(checkpoint: Path, options: ReconstructOptions) -> "tuple[SAM3DObjects, InferenceContract]":
    """Load a base model with its adapter or adapters, strictly, and how it is used.

    Raises:
        ValueError: an adapter is damaged, or of another base; the device is not there.
    """
    from sam3d_objects.model import load_model

    adapters = chosen_adapters(checkpoint, options)
    device = torch_device(options.device)
    model = load_model(options.base, device, options.dtype, LOADED[options.stages], options.offload)
    adapters.load(model)
    model.eval().requires_grad_(False)
    return model, use_contract(adapters.contract, options)


def load_models(base: str, checkpoint: Path, options: EvaluateOptions) -> Models:
    """Load a base model thrice, strictly: without adapters, with them, and with them merged.

    Raises:
        ValueError: an adapter is damaged, or of another base; the device is not there.
    """
    from sam3d_objects.model import load_model

    adapters = chosen_adapters(checkpoint, options)
    plain = load_model(base, device=torch_device(options.device), stages=LOADED[options.stages])
    adapted = separate(plain, adapters.stages)
    modules = adapters.load(adapted)
    adapted.eval().requires_grad_(False)
    merged = with_modules(plain, {stage: _merged(module) for stage, module in modules.items()})
    return Models(plain, adapted, merged, adapters, use_contract(adapters.contract, options))


def use_contract(contract: "InferenceContract", options: EvaluateOptions | ReconstructOptions) -> "InferenceContract":
    """Return the adapter's contract with what the options say otherwise."""
    given = {name: getattr(options, name) for name in _FROM_CONTRACT}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return dataclasses.replace(contract, **changes)


def separate(model: "SAM3DObjects", stages: Collection[str]) -> "SAM3DObjects":
    """Return a model that shares all but the modules that these stages adapt, of which it has copies."""
    from sam3d_objects.model.stages import adapted_module

    return with_modules(model, {stage: copy.deepcopy(adapted_module(model, stage)) for stage in stages})


def with_modules(model: "SAM3DObjects", modules: "Mapping[str, nn.Module]") -> "SAM3DObjects":
    """Return a model that shares all but the given modules (stage -> the one that it adapts)."""
    from sam3d_objects.model import SAM3DObjects
    from sam3d_objects.model.latent.stage import LatentStage
    from sam3d_objects.model.stages import DECODER, LATENT, STRUCTURE

    taken: dict[str, Any] = dict(modules)
    latent = model.latent
    if latent is not None:
        latent = LatentStage(
            latent.condition_embedder,
            taken.get(LATENT, latent.flow),
            taken.get(DECODER, latent.mesh_decoder),
            latent.encoder,
            latent.settings,
            latent.fingerprint,
        ).to(model.device)
    return SAM3DObjects(
        model.condition_embedder,
        taken.get(STRUCTURE, model.structure_flow),
        model.structure_encoder,
        model.structure_decoder,
        model.settings,
        model.name,
        model.fingerprint,
        latent,
    ).eval()


def _merged(module: "nn.Module") -> "nn.Module":
    from sam3d_objects.model.lora import has_lora, merged_model

    # What was trained without LoRA has nothing to be merged.
    return merged_model(module) if has_lora(module) else copy.deepcopy(module)


def torch_device(device: str) -> str:
    """Return torch's name of the device that a person asked for; loading a model finds out whether it is there.

    Raises:
        ValueError: it is mps.
    """
    from sam3d_objects.model.loading.placement import chosen_device

    return chosen_device(device)
