"""Weights on disk: read them safely, load them strictly, tell one base model from another.

A base model is a folder of YAML configs and weight files with the release's names: `pipeline.yaml` names one config
and one weight file for each module. The built-in tiny model is such a folder, too.
"""

import hashlib
import re
import struct
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, TypeVar, cast

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from sam3d_objects.files import nearest
from sam3d_objects.model.condition.fuser import EmbedderFuser
from sam3d_objects.model.generator import FlowGenerator
from sam3d_objects.model.instantiate import instantiate
from sam3d_objects.model.sam3d import SAM3DObjects
from sam3d_objects.model.structure.flow import StructureFlow
from sam3d_objects.model.structure.settings import StructureSettings
from sam3d_objects.model.structure.vae import StructureDecoder, StructureEncoder

__all__ = ["fingerprint", "instantiate", "load_model", "load_module", "read_tensors"]

TINY_FOLDER = Path(__file__).parent.parent / "assets" / "tiny"
_Module = TypeVar("_Module", bound=nn.Module)
GENERATOR_PREFIX = "_base_models.generator."
EMBEDDER_PREFIX = "_base_models.condition_embedder."
# The release keeps no config for its structure encoder: it is TRELLIS's.
ENCODER_CONFIG = {
    "_target_": "sam3d_objects.model.backbone.tdfy_dit.models.sparse_structure_vae.SparseStructureEncoderTdfyWrapper",
    "in_channels": 1,
    "latent_channels": 8,
    "num_res_blocks": 2,
    "num_res_blocks_middle": 2,
    "channels": [32, 128, 512],
}
# What safetensors, zipfile and torch's restricted unpickler raise over damaged bytes; tests/model/test_weights.py
# walks through truncations and flipped bytes.
DAMAGE = (
    SafetensorError,
    zipfile.BadZipFile,
    struct.error,
    OSError,
    EOFError,
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    AssertionError,
)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises:
        ValueError: the file is missing or holds something else.
    """
    if not path.is_file():
        raise ValueError(f"{path}: there is no such config; the folder must hold the release's YAML files")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: this is no YAML: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a YAML mapping, got {type(content).__name__}")
    return content


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a flat state dict from `.safetensors`, or from a torch file with `weights_only=True` and nothing else.

    Raises:
        ValueError: the file is missing, empty, damaged, of a foreign format, or holds anything but tensors.
    """
    if not path.is_file():
        raise ValueError(f"{path}: there is no such weight file; download the release again")
    if path.stat().st_size == 0:
        raise ValueError(f"{path}: the file is empty (0 bytes), as in downloads before June 2026; download it again")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():
            # Said of a foreign pickle just before it is refused, which says enough.
            warnings.filterwarnings("ignore", "Detected pickle protocol", UserWarning)
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except UnpicklingError as error:
        # Torch's own text proposes to load the file with its code; that is not passed on.
        code = re.search(r"GLOBAL ([\w.]+)", str(error))
        held = f"holds more than tensors ({code.group(1)})" if code else "is damaged or holds more than tensors"
        raise ValueError(f"{path}: refused, for it {held}; download it again from a source that you trust") from error
    except DAMAGE as error:
        raise ValueError(f"{path}: damaged or no weight file ({error}); download it again") from error
    state = content.get("state_dict", content) if isinstance(content, Mapping) else content
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path}: expected a mapping of names to tensors")
    return dict(state)


def load_module(module: nn.Module, state: Mapping[str, Tensor], where: str, dtype: torch.dtype) -> nn.Module:
    """Fill a module (built on the meta device) with tensors, strictly, cast to `dtype`.

    Raises:
        ValueError: keys that are missing, unknown, or of another shape, each named with what was expected and found.
    """
    wanted = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    missing, extra = sorted(set(wanted) - set(state)), sorted(set(state) - set(wanted))
    shapes = [
        f"{name} (expected {wanted[name]}, found {tuple(state[name].shape)} {state[name].dtype})"
        for name in sorted(set(wanted) & set(state))
        if wanted[name] != tuple(state[name].shape) or not state[name].is_floating_point()
    ]
    problems = [("missing", missing), ("not known", extra), ("of another shape or kind", shapes)]
    told = [f"{len(names)} tensors {what}: {', '.join(names[:5])}" for what, names in problems if names]
    if told:
        raise ValueError(f"{where}: does not fit this model; {'; '.join(told)}")
    module.load_state_dict({name: value.to(dtype) for name, value in state.items()}, assign=True)
    return module


def select_prefix(state: Mapping[str, Tensor], prefix: str, where: str) -> dict[str, Tensor]:
    """Keep the keys under `prefix`, without it. Other `_base_models.*` keys are other models' and are left out.

    Raises:
        ValueError: a key that is not under `_base_models.`.
    """
    foreign = sorted(key for key in state if not key.startswith("_base_models."))
    if foreign:
        raise ValueError(f"{where}: unknown tensors outside '_base_models.': {', '.join(foreign[:5])}")
    return {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}


def fingerprint(module: nn.Module) -> str:
    """SHA-256 over the names, dtypes, shapes and bytes of a module's tensors, in the order of their names."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name}|{value.dtype}|{tuple(value.shape)}|".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def load_model(base: str | Path = "tiny", device: str = "cpu", dtype: torch.dtype = torch.float32) -> SAM3DObjects:
    """Load a base model's structure half.

    Args:
        base: 'tiny', or a folder with the release's files.
        device, dtype: where and as what the weights are kept.

    Raises:
        ValueError: a file is missing, damaged, or does not fit; it is named.
    """
    folder = TINY_FOLDER if str(base) == "tiny" else Path(base)
    if not folder.is_dir():
        raise ValueError(f"base model {str(base)!r}: no such folder; give 'tiny' or the folder of the released files")
    pipeline = {"ss_encoder_ckpt_path": "ss_encoder.ckpt", **read_yaml(folder / "pipeline.yaml")}

    def file(key: str) -> Path:
        if not isinstance(pipeline.get(key), str):
            raise ValueError(
                f"{folder / 'pipeline.yaml'}: it must name a file under {key!r}, got {pipeline.get(key)!r}"
            )
        return folder / pipeline[key]

    settings = read_settings(pipeline, folder)
    with torch.device("meta"):
        generator = _build(file("ss_generator_config_path"), FlowGenerator, "module", "generator", "backbone")
        embedder = _build(file("ss_generator_config_path"), EmbedderFuser, "module", "condition_embedder", "backbone")
        decoder = _build(file("ss_decoder_config_path"), StructureDecoder)
        encoder = (
            _build(file("ss_encoder_config_path"), StructureEncoder)
            if "ss_encoder_config_path" in pipeline
            else instantiate(ENCODER_CONFIG)
        )
    path = file("ss_generator_ckpt_path")
    state = read_tensors(path)
    load_module(generator, select_prefix(state, GENERATOR_PREFIX, str(path)), str(path), dtype)
    load_module(embedder, select_prefix(state, EMBEDDER_PREFIX, str(path)), str(path), dtype)
    for module, key in ((decoder, "ss_decoder_ckpt_path"), (encoder, "ss_encoder_ckpt_path")):
        load_module(module, read_tensors(file(key)), str(file(key)), dtype)
    flow = cast(StructureFlow, generator.reverse_fn.backbone)
    model = SAM3DObjects(embedder, flow, encoder, decoder, settings, folder.resolve().name)
    model.fingerprint = fingerprint(model)
    return model.to(device).eval().requires_grad_(False)


def _build(path: Path, kind: type[_Module], *keys: str) -> _Module:
    """Build the module that a config describes under `keys`; ValueError names the file."""
    node: Any = read_yaml(path)
    for key in keys:
        if not isinstance(node, dict) or key not in node:
            raise ValueError(f"{path}: expected the key {'.'.join(keys)!r}, and {key!r} is not there")
        node = node[key]
    try:
        module = instantiate(node)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if not isinstance(module, kind):
        raise ValueError(f"{path}: expected the config of a {kind.__name__}, got {type(module).__name__}")
    return module


def read_settings(pipeline: Mapping[str, Any], folder: Path) -> StructureSettings:
    """Read our own constants from a pipeline's `structure_settings`; the release has none and takes the defaults."""
    given = dict(pipeline.get("structure_settings") or {})
    known = [field.name for field in fields(StructureSettings)]
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ValueError(
            f"{folder / 'pipeline.yaml'}: unknown structure_settings {unknown}.{nearest(unknown[0], known)}"
        )
    for name in ("pose_mean", "pose_std"):
        given[name] = {key: tuple(values) for key, values in given.get(name, {}).items()}
    try:
        return StructureSettings(**given)
    except ValueError as error:
        raise ValueError(f"{folder / 'pipeline.yaml'}: structure_settings: {error}") from error
