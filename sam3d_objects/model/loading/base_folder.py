"""A base model's folder: YAML configs and weight files with the release's names.

`pipeline.yaml` names one config and one weight file for each module. The built-in tiny model is such a folder, too.
"""

import hashlib
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from sam3d_objects.model.condition.fuser import EmbedderFuser
from sam3d_objects.model.generator import FlowGenerator, GuidedNetwork
from sam3d_objects.model.loading.configs import build_module, expect_module, read_yaml
from sam3d_objects.model.loading.modules import AbsentModule, load_module, state_fingerprint
from sam3d_objects.model.loading.settings import PIPELINE
from sam3d_objects.model.loading.tensors import read_tensors, select_prefix

TINY_FOLDER = Path(__file__).parents[2] / "assets" / "tiny"
GENERATOR_PREFIX = "_base_models.generator."
EMBEDDER_PREFIX = "_base_models.condition_embedder."
_SUFFIXES = {"config": "yaml", "ckpt": "ckpt"}
_Module = TypeVar("_Module", bound=nn.Module)


class BaseFolder:
    """The modules of one folder, each read, cast and placed before the next.

    Args:
        base: 'tiny', or a folder with the release's files.
        device, dtype: where and as what the weights are kept.

    Raises:
        ValueError: there is no such folder, or its pipeline.yaml is no good.
    """

    def __init__(self, base: str | Path, device: str, dtype: torch.dtype) -> None:
        self.folder = TINY_FOLDER if str(base) == "tiny" else Path(base)
        if not self.folder.is_dir():
            raise ValueError(
                f"base model {str(base)!r}: no such folder; give 'tiny' or the folder of the released files"
            )
        self.pipeline = read_yaml(self.folder / PIPELINE)
        self.device, self.dtype = device, dtype
        self._digests: dict[str, list[str]] = {}

    def has_latent_stage(self) -> bool:
        """Whether pipeline.yaml names any file of the latent stage."""
        return any(str(key).startswith("slat_") and str(key).endswith("_path") for key in self.pipeline)

    def path(self, key: str) -> Path:
        """The file that pipeline.yaml names under a key.

        Raises:
            ValueError: it names none.
        """
        if not isinstance(self.pipeline.get(key), str):
            raise ValueError(
                f"{self.folder / PIPELINE}: it must name a file under {key!r}, got {self.pipeline.get(key)!r}; "
                "correct it there"
            )
        return self.folder / self.pipeline[key]

    def fingerprint(self, *parts: str) -> str:
        """SHA-256 of the weights of parts that were loaded, as they are in the files, whatever the dtype asked for."""
        lines = [f"{part} {digest}" for part in parts for digest in self._digests[part]]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def flow(self, part: str, kind: type[_Module]) -> tuple[_Module, EmbedderFuser]:
        """Load a flow's network and its condition embedder, which share a config and a weight file.

        Args:
            part: 'ss_generator' or 'slat_generator'.
            kind: the network's class.
        """
        config, path = self.path(f"{part}_config_path"), self.path(f"{part}_ckpt_path")
        node = read_yaml(config)
        generator = build_module(node, FlowGenerator, config, "module", "generator", "backbone")
        guided = expect_module(generator.reverse_fn, GuidedNetwork, config, "module.generator.backbone.reverse_fn")
        network = expect_module(guided.backbone, kind, config, "module.generator.backbone.reverse_fn.backbone")
        embedder = build_module(node, EmbedderFuser, config, "module", "condition_embedder", "backbone")
        state = read_tensors(path)
        self._fill(part, generator, select_prefix(state, GENERATOR_PREFIX, str(path)), path, GENERATOR_PREFIX)
        self._fill(part, embedder, select_prefix(state, EMBEDDER_PREFIX, str(path)), path, EMBEDDER_PREFIX)
        return network, embedder

    def decoder(self, part: str, kind: type[_Module]) -> _Module:
        """Load a decoder: 'ss_decoder' or 'slat_decoder_mesh'."""
        config, path = self.path(f"{part}_config_path"), self.path(f"{part}_ckpt_path")
        module = build_module(read_yaml(config), kind, config)
        self._fill(part, module, read_tensors(path), path)
        return module

    def encoder(self, part: str, kind: type[_Module], assumed: dict[str, Any]) -> _Module | AbsentModule:
        """Load an encoder: 'ss_encoder' or 'slat_encoder'.

        Only training needs one, and downloads before June 2026 have none, or an empty one. So one that is missing or
        empty becomes an `AbsentModule`, which says so when it is called; one that is damaged is an error.

        Args:
            assumed: its config where the folder has none.
        """
        config = self.encoder_file(part, "config")
        node = read_yaml(config) if config.is_file() or f"{part}_config_path" in self.pipeline else assumed
        module = build_module(node, kind, config)
        path = self.encoder_file(part, "ckpt")
        size = path.stat().st_size if path.is_file() else None
        if not size:
            found = "there is no such weight file" if size is None else "the file is empty (0 bytes)"
            return AbsentModule(
                f"{path}: {found}, as in downloads before June 2026. It makes training targets; the rest works "
                "without it. Get it with scripts/download_checkpoints.py"
            )
        self._fill(part, module, read_tensors(path), path)
        return module

    def encoder_file(self, part: str, what: Literal["config", "ckpt"]) -> Path:
        """An encoder's file, which pipeline.yaml may name; else it has its released name."""
        key = f"{part}_{what}_path"
        return self.path(key) if key in self.pipeline else self.folder / f"{part}.{_SUFFIXES[what]}"

    def _fill(self, part: str, module: nn.Module, state: dict[str, Tensor], path: Path, prefix: str = "") -> None:
        load_module(module, state, str(path), self.dtype, prefix).to(self.device).eval().requires_grad_(False)
        self._digests.setdefault(part, []).append(state_fingerprint(state))
