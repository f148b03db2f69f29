"""Weights on disk, by the names that the rest of the package uses: see `sam3d_objects.model.loading`."""

from sam3d_objects.model.instantiate import instantiate
from sam3d_objects.model.loading import (
    EMBEDDER_PREFIX,
    ENCODER_CONFIG,
    GENERATOR_PREFIX,
    LATENT_ENCODER_CONFIG,
    TINY_FOLDER,
    fingerprint,
    load_model,
    load_module,
    read_latent_settings,
    read_settings,
    read_tensors,
    read_yaml,
    select_prefix,
)

__all__ = [
    "EMBEDDER_PREFIX",
    "ENCODER_CONFIG",
    "GENERATOR_PREFIX",
    "LATENT_ENCODER_CONFIG",
    "TINY_FOLDER",
    "fingerprint",
    "instantiate",
    "load_model",
    "load_module",
    "read_latent_settings",
    "read_settings",
    "read_tensors",
    "read_yaml",
    "select_prefix",
]
