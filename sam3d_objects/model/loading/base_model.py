"""Load a base model, module by module."""

from collections.abc import Collection
from pathlib import Path
from typing import cast

import torch

from sam3d_objects.model.latent.encoder import LatentEncoder
from sam3d_objects.model.latent.flow import LatentFlow
from sam3d_objects.model.latent.mesh_decoder import MeshDecoder
from sam3d_objects.model.latent.stage import LatentStage
from sam3d_objects.model.loading.base_folder import BaseFolder
from sam3d_objects.model.loading.configs import ENCODER_CONFIG, LATENT_ENCODER_CONFIG
from sam3d_objects.model.loading.placement import parse_device, parse_dtype
from sam3d_objects.model.loading.settings import read_latent_settings, read_settings
from sam3d_objects.model.sam3d import SAM3DObjects
from sam3d_objects.model.structure.flow import StructureFlow
from sam3d_objects.model.structure.vae import StructureDecoder, StructureEncoder

STAGES = ("structure", "latent")


def load_model(
    base: str | Path = "tiny",
    device: str = "cpu",
    dtype: torch.dtype | str = torch.float32,
    stages: Collection[str] = STAGES,
    offload: bool = False,
) -> SAM3DObjects:
    """Load a base model. Each file is read, cast and placed before the next, so that memory is about one file more.

    Args:
        base: 'tiny', or a folder with the release's files.
        device: where the model runs.
        dtype: as what the weights are kept: float32, bfloat16 or float16, torch's or its name.
        stages: 'structure', or both. A folder whose pipeline.yaml names no latent stage has none.
        offload: the weights rest on the CPU, and each module is on `device` only while it runs.

    Raises:
        ValueError: a file is missing, damaged, or does not fit; it is named. Or this machine has no such device.
    """
    if "structure" not in stages or not set(stages) <= set(STAGES):
        raise ValueError(f"stages must be ('structure',) or {STAGES}, got {tuple(stages)}")
    runs_on = parse_device(device)
    folder = BaseFolder(base, "cpu" if offload else device, parse_dtype(dtype))
    model = _structure_half(folder)
    if "latent" in stages and folder.has_latent_stage():
        try:
            model.latent = _latent_stage(folder, model.settings.resolution)
        except ValueError as error:
            raise ValueError(f"{error}. (The structure half loads alone with stages=('structure',))") from error
    model.offload_device = runs_on if offload else None
    return model.eval()


def _structure_half(folder: BaseFolder) -> SAM3DObjects:
    settings = read_settings(folder.pipeline, folder.folder)
    flow, embedder = folder.flow("ss_generator", StructureFlow)
    decoder = folder.decoder("ss_decoder", StructureDecoder)
    # Not the encoder's: an adapter must load where the encoder's file is not there.
    fingerprint = folder.fingerprint("ss_generator", "ss_decoder")
    encoder = folder.encoder("ss_encoder", StructureEncoder, ENCODER_CONFIG)
    return SAM3DObjects(
        embedder,
        flow,
        cast(StructureEncoder, encoder),
        decoder,
        settings,
        folder.folder.resolve().name,
        fingerprint,
    )


def _latent_stage(folder: BaseFolder, resolution: int) -> LatentStage:
    flow, embedder = folder.flow("slat_generator", LatentFlow)
    settings = read_latent_settings(folder.pipeline, folder.folder, flow.in_channels)
    decoder = folder.decoder("slat_decoder_mesh", MeshDecoder)
    _check_resolution(folder.path("slat_decoder_mesh_config_path"), decoder.resolution, resolution)
    fingerprint = folder.fingerprint("slat_generator", "slat_decoder_mesh")
    encoder = folder.encoder("slat_encoder", LatentEncoder, LATENT_ENCODER_CONFIG)
    if isinstance(encoder, LatentEncoder):
        _check_resolution(folder.encoder_file("slat_encoder", "config"), encoder.resolution, resolution)
    stage = LatentStage(embedder, flow, decoder, cast(LatentEncoder, encoder), settings, fingerprint)
    # The weights are placed; this moves the settings' mean and deviation.
    return stage.to(folder.device)


def _check_resolution(config: Path, found: int, expected: int) -> None:
    if found != expected:
        raise ValueError(
            f"{config}: resolution: expected {expected}, that of the structure stage in pipeline.yaml, got {found}; "
            "correct the one that is wrong"
        )
