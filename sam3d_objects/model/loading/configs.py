"""Config files: read YAML, and build the modules that it describes."""

from pathlib import Path
from typing import Any, TypeVar

import torch
import yaml
from torch import nn

from sam3d_objects.model.instantiate import instantiate

_Module = TypeVar("_Module", bound=nn.Module)
REMEDY = "correct it there, or download the file again"
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


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises:
        ValueError: the file is missing or holds something else.
    """
    if not path.is_file():
        raise ValueError(f"{path}: there is no such config; the folder must hold the release's YAML files")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError) as error:
        # ValueError: bytes that are no text, or a date that there is not.
        told = " ".join(str(error).split())
        raise ValueError(f"{path}: this is no YAML: {told}; download it again") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a YAML mapping, got {type(content).__name__}; download it again")
    return content


def build_module(node: Any, kind: type[_Module], where: Path, *keys: str) -> _Module:
    """Build on the meta device the module that a config's node describes under `keys`.

    Raises:
        ValueError: a key is not there, or the node is not the config of a `kind`; `where` and the key are named.
    """
    dotted = ".".join(keys)
    for key in keys:
        if not isinstance(node, dict) or key not in node:
            raise ValueError(f"{where}: expected the key {dotted!r}, and {key!r} is not there; {REMEDY}")
        node = node[key]
    try:
        with torch.device("meta"):
            module = instantiate(node, dotted)
    except ValueError as error:
        raise ValueError(f"{where}: {error}; {REMEDY}") from error
    except RecursionError as error:
        raise ValueError(f"{where}: {dotted}: a node of it holds itself; {REMEDY}") from error
    return expect_module(module, kind, where, dotted)


def expect_module(module: object, kind: type[_Module], where: Path, key: str) -> _Module:
    """Return `module`, which a config describes under a dotted key, as the `kind` that it must be.

    Raises:
        ValueError: it is something else; `where` and the key are named.
    """
    if not isinstance(module, kind):
        at = f"{key}: " if key else ""
        raise ValueError(
            f"{where}: {at}expected the config of a {kind.__name__}, got {type(module).__name__}; {REMEDY}"
        )
    return module
