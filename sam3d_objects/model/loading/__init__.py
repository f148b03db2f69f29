"""From a base model's folder to the model: read its files safely, fill modules strictly, one at a time."""

from sam3d_objects.model.loading.base_folder import EMBEDDER_PREFIX, GENERATOR_PREFIX, TINY_FOLDER, BaseFolder
from sam3d_objects.model.loading.base_model import STAGES, load_model
from sam3d_objects.model.loading.configs import (
    ENCODER_CONFIG,
    LATENT_ENCODER_CONFIG,
    build_module,
    read_yaml,
)
from sam3d_objects.model.loading.modules import AbsentModule, fingerprint, load_module
from sam3d_objects.model.loading.settings import read_latent_settings, read_settings
from sam3d_objects.model.loading.tensors import read_tensors, select_prefix

__all__ = [
    "EMBEDDER_PREFIX",
    "ENCODER_CONFIG",
    "GENERATOR_PREFIX",
    "LATENT_ENCODER_CONFIG",
    "STAGES",
    "TINY_FOLDER",
    "AbsentModule",
    "BaseFolder",
    "build_module",
    "fingerprint",
    "load_model",
    "load_module",
    "read_latent_settings",
    "read_settings",
    "read_tensors",
    "read_yaml",
    "select_prefix",
]
