"""Folders that PEFT wrote, read into our layers: `adapter_config.json` and `adapter_model.safetensors`.

Which layers are adapted is read off the tensors, so that no expression of the file is run over the model's names. What
would compute something else here than in PEFT is refused.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from sam3d_objects.adapter.folder import check_fits, install, read_state
from sam3d_objects.adapter.peft_config import PeftConfig
from sam3d_objects.adapter.record import MOST_BYTES, PEFT_CONFIG, TENSORS
from sam3d_objects.adapter.untrusted import check_entries, read_json_file
from sam3d_objects.model.lora import LayerOptions, LoRAConfig, has_lora

_PICKLE = "adapter_model.bin"
_A = ".lora_A"
_LEAVES = (_A, ".lora_B", ".lora_magnitude")
_BASE_WEIGHT = ".base_layer.weight"


@dataclass(frozen=True)
class PeftAdapter:
    """What a PEFT folder was.

    Attributes:
        base_name: the base model as PEFT names it; '' where it says nothing. PEFT keeps no fingerprint of it.
        layers: path -> options of each adapted layer.
        trained: names of the tensors that were trained fully (`modules_to_save`).
    """

    base_name: str
    layers: Mapping[str, LayerOptions]
    trained: tuple[str, ...]

    @property
    def config(self) -> LoRAConfig:
        """The same as options, for `save_adapter` to remember."""
        patterns = {
            path: {"rank": x.rank, "alpha": x.alpha, "rslora": x.rslora, "dora": x.dora}
            for path, x in self.layers.items()
        }
        dropout = next((options.dropout for options in self.layers.values()), 0.0)
        return LoRAConfig(dropout=dropout, target_modules=(), patterns=patterns, trained_modules=self.trained)


def load_peft_adapter(folder: str | os.PathLike[str], model: nn.Module) -> PeftAdapter:
    """Put a PEFT adapter into its base model, in place: all of it, or an error and nothing changed.

    Adapters, and what was trained beside them, are trainable afterwards, the rest is frozen. Nothing tells whether the
    model is the one that the adapter was trained on, but that every tensor fits it.

    Args:
        folder: with `adapter_config.json` and `adapter_model.safetensors`, as `PeftModel.save_pretrained` writes them.
        model: the base, without adapters, with the module names that it had for PEFT.

    Raises:
        ValueError: there is no such folder, a file that no adapter has (see `adapter.untrusted`), an option that
            computes something else here, or tensors that do not fit; folder and reason are named.
    """
    path = Path(folder)
    _check_files(path)
    config = PeftConfig.from_values(read_json_file(path / PEFT_CONFIG), str(path / PEFT_CONFIG))
    if has_lora(model):
        raise ValueError(f"{path} was not loaded: the model has adapters already, load it into a fresh base")
    state = read_state(path / TENSORS)
    try:
        layers = _layers(state, config)
        state = _without_base(state, layers, model)
        matrices = {path + leaf for path in layers for leaf in _LEAVES}
        trained = tuple(name for name in state if name not in matrices)
        check_fits(model, layers, trained, state)
    except ValueError as error:
        raise ValueError(f"{path} was not loaded: {error}") from error
    install(model, layers, trained, state)
    return PeftAdapter(config.base_name, layers, trained)


def _check_files(path: Path) -> None:
    if not path.is_dir():
        raise ValueError(f"no PEFT adapter at {path}: no such folder")
    check_entries(path, MOST_BYTES)
    missing = [name for name in (PEFT_CONFIG, TENSORS) if not (path / name).exists()]
    if TENSORS in missing and (path / _PICKLE).exists():
        raise ValueError(
            f"{path} holds {_PICKLE}, a pickle, which could run code: load it in PEFT where you trust it, and save it "
            "with safe_serialization=True"
        )
    if missing:
        raise ValueError(f"no PEFT adapter at {path}: {' and '.join(missing)} missing")


def _layers(state: Mapping[str, Tensor], config: PeftConfig) -> dict[str, LayerOptions]:
    """Return path -> options of the layers whose matrices are in the file.

    Raises:
        ValueError: there is none, or one's rank is not what the config says it is.
    """
    layers: dict[str, LayerOptions] = {}
    for name, tensor in state.items():
        if not name.endswith(_A):
            continue
        path = name.removesuffix(_A)
        layers[path] = config.options(path)
        rank = tensor.shape[0] if tensor.dim() else 0
        if rank != layers[path].rank:
            raise ValueError(f"{name} has {rank} rows, and the config gives it the rank {layers[path].rank}")
    if not layers:
        raise ValueError("it holds no matrices of LoRA")
    return layers


def _without_base(state: dict[str, Tensor], layers: Mapping[str, LayerOptions], model: nn.Module) -> dict[str, Tensor]:
    """Return the tensors without the base's embeddings, which PEFT saves beside their adapters.

    Raises:
        ValueError: one is not the model's own, as where the vocabulary was enlarged.
    """
    own = dict(model.named_parameters())
    kept = {}
    for name, tensor in state.items():
        path = name.removesuffix(_BASE_WEIGHT)
        if path == name or path not in layers:
            kept[name] = tensor
            continue
        weight = own.get(f"{path}.weight")
        if weight is None or weight.shape != tensor.shape or not torch.equal(weight.cpu(), tensor.to(weight.dtype)):
            raise ValueError(f"it holds another base weight of {path}: the base was changed beside LoRA")
    return kept
