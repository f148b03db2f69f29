"""Config files: read YAML, build the modules that it describes, read the settings of a pipeline."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
import yaml
from torch import nn

from sam3d_objects.files import nearest
from sam3d_objects.model.instantiate import instantiate
from sam3d_objects.model.latent.settings import LatentSettings
from sam3d_objects.model.structure.settings import StructureSettings

_Module = TypeVar("_Module", bound=nn.Module)
_DIT = "sam3d_objects.model.backbone.tdfy_dit.models"
# The release's pipeline.yaml names no encoder, and downloads before June 2026 have no config for one: TRELLIS's are
# taken (Xiang et al. 2024, arXiv 2412.01506), whose weights they are.
ENCODER_CONFIG = {
    "_target_": f"{_DIT}.sparse_structure_vae.SparseStructureEncoderTdfyWrapper",
    "in_channels": 1,
    "latent_channels": 8,
    "num_res_blocks": 2,
    "num_res_blocks_middle": 2,
    "channels": [32, 128, 512],
}
LATENT_ENCODER_CONFIG = {
    "_target_": f"{_DIT}.structured_latent_vae.encoder.SLatEncoderTdfyWrapper",
    "resolution": 64,
    "in_channels": 1024,
    "model_channels": 768,
    "latent_channels": 8,
    "num_blocks": 12,
    "num_heads": 12,
    "mlp_ratio": 4,
    "attn_mode": "swin",
    "window_size": 8,
    "use_fp16": True,
}
# Key of pipeline.yaml -> field of LatentSettings. The step count of the release's configs is not the effective one.
_LATENT_KEYS = {
    "slat_mean": "mean",
    "slat_std": "std",
    "slat_rescale_t": "rescale",
    "slat_cfg_strength": "guidance",
}


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises:
        ValueError: the file is missing or holds something else.
    """
    if not path.is_file():
        raise ValueError(f"{path}: there is no such config; the folder must hold the release's YAML files")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: this is no YAML: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a YAML mapping, got {type(content).__name__}")
    return content


def build_module(node: Any, kind: type[_Module], where: Path, *keys: str) -> _Module:
    """Build on the meta device the module that a config's node describes under `keys`.

    Raises:
        ValueError: a key is not there, or the node is not the config of a `kind`; `where` is named.
    """
    for key in keys:
        if not isinstance(node, dict) or key not in node:
            raise ValueError(f"{where}: expected the key {'.'.join(keys)!r}, and {key!r} is not there")
        node = node[key]
    try:
        with torch.device("meta"):
            module = instantiate(node)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    if not isinstance(module, kind):
        raise ValueError(f"{where}: expected the config of a {kind.__name__}, got {type(module).__name__}")
    return module


def read_settings(pipeline: Mapping[str, Any], folder: Path) -> StructureSettings:
    """Read our own constants from a pipeline's `structure_settings`; the release has none and takes the defaults."""
    given = _section(pipeline, folder, "structure_settings", StructureSettings)
    for name in ("pose_mean", "pose_std"):
        given[name] = {key: tuple(values) for key, values in given.get(name, {}).items()}
    try:
        return StructureSettings(**given)
    except ValueError as error:
        raise ValueError(f"{folder / 'pipeline.yaml'}: structure_settings: {error}") from error


def read_latent_settings(pipeline: Mapping[str, Any], folder: Path, channels: int) -> LatentSettings:
    """Read the latent stage's constants: the release's `slat_*` keys, and our own under `latent_settings`.

    Args:
        channels: of the latents; `slat_mean` and `slat_std` must have as many numbers.

    Raises:
        ValueError: a value is missing or wrong; the file and the key are named.
    """
    path = folder / "pipeline.yaml"
    given = _section(pipeline, folder, "latent_settings", LatentSettings)
    for key in ("slat_mean", "slat_std"):
        numbers = pipeline.get(key)
        if not (isinstance(numbers, list) and len(numbers) == channels and all(map(_is_number, numbers))):
            raise ValueError(
                f"{path}: {key}: expected {channels} numbers, one for each latent channel, got {numbers!r}"
            )
    given |= {name: pipeline[key] for key, name in _LATENT_KEYS.items() if key in pipeline}
    for name in ("rescale", "guidance", "steps"):
        if not _is_number(given.get(name, 1)):
            raise ValueError(f"{path}: {name} of the latent stage: expected a number, got {given[name]!r}")
    given["mean"], given["std"] = tuple(given["mean"]), tuple(given["std"])
    try:
        return LatentSettings(**given)
    except ValueError as error:
        raise ValueError(f"{path}: latent_settings: {error}") from error


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _section(pipeline: Mapping[str, Any], folder: Path, name: str, settings: type) -> dict[str, Any]:
    given = dict(pipeline.get(name) or {})
    known = [field.name for field in dataclasses.fields(settings)]
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ValueError(f"{folder / 'pipeline.yaml'}: unknown {name} {unknown}.{nearest(unknown[0], known)}")
    return given
