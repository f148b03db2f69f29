"""The settings of a base model's stages, as its pipeline.yaml gives them."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sam3d_objects.files import nearest
from sam3d_objects.model.checks import check_mapping, check_number, check_numbers
from sam3d_objects.model.latent.settings import LatentSettings
from sam3d_objects.model.structure.settings import StructureSettings

PIPELINE = "pipeline.yaml"


def read_settings(pipeline: Mapping[str, Any], folder: Path) -> StructureSettings:
    """Read our own constants from a pipeline's `structure_settings`; the release has none and takes the defaults.

    Raises:
        ValueError: a value is unknown or wrong; the file and the key are named.
    """
    given = _section(pipeline, folder, "structure_settings", StructureSettings)
    try:
        for name in ("pose_mean", "pose_std"):
            poses = given.get(name, {})
            check_mapping(name, poses)
            given[name] = {key: tuple(value) if isinstance(value, list) else value for key, value in poses.items()}
        return StructureSettings(**given)
    except ValueError as error:
        raise ValueError(f"{folder / PIPELINE}: structure_settings: {error}; correct it there") from error


def read_latent_settings(pipeline: Mapping[str, Any], folder: Path, channels: int) -> LatentSettings:
    """Read the latent stage's constants: the release's `slat_*` keys, and our own under `latent_settings`.

    Args:
        channels: of the latents; `slat_mean` and `slat_std` must have as many numbers.

    Raises:
        ValueError: a value is missing or wrong; the file and the key are named.
    """
    path = folder / PIPELINE
    given = _section(pipeline, folder, "latent_settings", LatentSettings)
    try:
        given |= _released(pipeline, channels)
    except ValueError as error:
        raise ValueError(f"{path}: {error}; correct it there") from error
    try:
        return LatentSettings(**given)
    except ValueError as error:
        raise ValueError(f"{path}: latent_settings: {error}; correct it there") from error


def _released(pipeline: Mapping[str, Any], channels: int) -> dict[str, Any]:
    """Check the release's keys under their own names; its configs' step count is not the effective one."""
    mean, std = pipeline.get("slat_mean"), pipeline.get("slat_std")
    check_numbers("slat_mean", mean, channels)
    check_numbers("slat_std", std, channels, above=0)
    given: dict[str, Any] = {"mean": tuple(mean or ()), "std": tuple(std or ())}
    if "slat_rescale_t" in pipeline:
        given["rescale"] = pipeline["slat_rescale_t"]
        check_number("slat_rescale_t", given["rescale"], above=0)
    if "slat_cfg_strength" in pipeline:
        given["guidance"] = pipeline["slat_cfg_strength"]
        check_number("slat_cfg_strength", given["guidance"])
    return given


def _section(pipeline: Mapping[str, Any], folder: Path, name: str, settings: type) -> dict[str, Any]:
    section = pipeline.get(name)
    if section is None:
        return {}
    if not isinstance(section, Mapping):
        raise ValueError(
            f"{folder / PIPELINE}: {name}: expected a mapping of settings, got {section!r}; correct it there"
        )
    known = [field.name for field in dataclasses.fields(settings)]
    unknown = sorted(str(key) for key in section if key not in known)
    if unknown:
        raise ValueError(f"{folder / PIPELINE}: unknown {name} {unknown}.{nearest(unknown[0], known)}")
    return dict(section)
