"""The built-in tiny model: make it from its configs, pretrain its halves, write it as a base model's folder."""

import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from sam3d_objects.files import atomic_path
from sam3d_objects.model.instantiate import instantiate
from sam3d_objects.model.latent.stage import LatentStage
from sam3d_objects.model.sam3d import SAM3DObjects
from sam3d_objects.model.weights import (
    EMBEDDER_PREFIX,
    GENERATOR_PREFIX,
    TINY_FOLDER,
    load_model,
    read_latent_settings,
    read_settings,
    read_yaml,
)
from sam3d_objects.pretraining.bank import load_bank
from sam3d_objects.pretraining.latent_half import pretrain_latent
from sam3d_objects.pretraining.options import PretrainOptions
from sam3d_objects.pretraining.structure_half import pretrain_structure

FLOW_PREFIX = f"{GENERATOR_PREFIX}reverse_fn.backbone."
HALVES = ("structure", "latent")


def new_tiny_model() -> SAM3DObjects:
    """Build the tiny model from its configs, with random weights from torch's generator."""

    def build(name: str) -> Any:
        return instantiate(read_yaml(TINY_FOLDER / f"{name}.yaml"))

    pipeline = read_yaml(TINY_FOLDER / "pipeline.yaml")
    structure, latent = (
        instantiate(read_yaml(TINY_FOLDER / f"{name}.yaml")["module"]) for name in ("ss_generator", "slat_generator")
    )
    flow = latent["generator"]["backbone"].reverse_fn.backbone
    stage = LatentStage(
        latent["condition_embedder"]["backbone"],
        flow,
        build("slat_decoder_mesh"),
        build("slat_encoder"),
        read_latent_settings(pipeline, TINY_FOLDER, flow.in_channels),
    )
    return SAM3DObjects(
        structure["condition_embedder"]["backbone"],
        structure["generator"]["backbone"].reverse_fn.backbone,
        build("ss_encoder"),
        build("ss_decoder"),
        read_settings(pipeline, TINY_FOLDER),
        "tiny",
        latent=stage,
    )


def pretrain(options: PretrainOptions, halves: Collection[str] = HALVES) -> tuple[SAM3DObjects, bool]:
    """Run or resume the pretraining of one half or both; return the model and whether the end was reached.

    A half that is not trained keeps the weights that the package ships.
    """
    torch.manual_seed(options.seed)
    model = new_tiny_model()
    bank = load_bank(
        options.work / "bank",
        options.shapes,
        options.seed,
        model.settings.resolution,
        max(1, options.workers),
    )
    if set(halves) != set(HALVES):
        keep_shipped(model, next(half for half in HALVES if half not in halves))
    done = True
    if "structure" in halves:
        done = pretrain_structure(model, bank, options)
    if "latent" in halves and done:
        done = pretrain_latent(model, bank, options)
    return model, done


def keep_shipped(model: SAM3DObjects, half: str) -> None:
    """Give one half the shipped weights; the other starts from nothing, as when both are trained."""
    shipped = load_model("tiny", stages=("structure",) if half == "structure" else HALVES).state_dict()
    kept = {name: value for name, value in shipped.items() if name.startswith("latent.") == (half == "latent")}
    model.load_state_dict(model.state_dict() | kept)


def save_tiny(model: SAM3DObjects, folder: Path = TINY_FOLDER) -> None:
    """Write the weights as float16 safetensors with the release's names, and the configs beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    for config in TINY_FOLDER.glob("*.yaml"):
        if folder.resolve() != TINY_FOLDER.resolve():
            shutil.copy(config, folder)
    stage = model.latent_stage
    files = {
        "ss_generator": _generator_state(model.structure_flow, model.condition_embedder),
        "ss_decoder": model.structure_decoder.state_dict(),
        "ss_encoder": model.structure_encoder.state_dict(),
        "slat_generator": _generator_state(stage.flow, stage.condition_embedder),
        "slat_decoder_mesh": stage.mesh_decoder.state_dict(),
        "slat_encoder": stage.encoder.state_dict(),
    }
    for name, state in files.items():
        with atomic_path(folder / f"{name}.safetensors") as temporary:
            save_file({key: value.half().contiguous() for key, value in state.items()}, temporary)


def _generator_state(flow: torch.nn.Module, embedder: torch.nn.Module) -> dict[str, Tensor]:
    state = {FLOW_PREFIX + name: value for name, value in flow.state_dict().items()}
    return state | {EMBEDDER_PREFIX + name: value for name, value in embedder.state_dict().items()}
