"""The adapter folder: written whole or not at all, loaded strictly or not at all.

- `adapter_model.safetensors`: every tensor that was trained, A, B and heads (names: `peft_format`); without LoRA,
  where a module was trained fully, all of its weights
- `adapter_config.json`: for PEFT, with its keys only; never read here
- `sam3d.json`: ours (`record`): stage, base, inference contract, options of each layer
- `README.md`: a card for people (`card`)
"""

import os
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from sam3d_objects.adapter.atomic import atomic_folder
from sam3d_objects.adapter.card import adapter_card
from sam3d_objects.adapter.meta import AdapterMeta
from sam3d_objects.adapter.peft_format import from_peft_name, peft_config, to_peft_name
from sam3d_objects.adapter.record import (
    CARD,
    NAMES,
    PEFT_CONFIG,
    RECORD,
    TENSORS,
    AdapterRecord,
    read_adapter,
)
from sam3d_objects.files import sha256_file, write_json
from sam3d_objects.model.lora import (
    LayerOptions,
    LoRAConfig,
    check_adapter_tensors,
    check_plan,
    collapse_paths,
    count_parameters,
    get_lora_state_dict,
    has_lora,
    inject_planned,
    load_lora_state_dict,
    lora_layers,
)


def save_adapter(folder: str | os.PathLike[str], model: nn.Module, config: LoRAConfig, meta: AdapterMeta) -> None:
    """Write the adapter of a model as a folder, replacing an older adapter there.

    Args:
        folder: new, empty, or an adapter's.
        model: with adapters; what else is unfrozen in it is saved as well.
        config: the options that the adapters were made with, to be remembered; each layer's own are read off
            it. One that is `without_lora` saves a model that trains fully.
        meta: `meta.base_fingerprint` is that of the base before the adapters went in.

    Raises:
        ValueError: the model has no adapter, a tensor is not finite or has no values (meta device), or the
            folder holds other files; nothing is written.
        OSError: the folder can't be written (a full disk); an older adapter there stays as it was.
    """
    layers = {path: LayerOptions(x.rank, x.alpha, x.dropout_rate) for path, x in lora_layers(model).items()}
    state = get_lora_state_dict(model)
    if not state or not (layers or config.without_lora):
        raise ValueError(f"nothing to save in {folder}: the model has no adapter (or it is merged already)")
    bad = [name for name, tensor in state.items() if tensor.is_meta or not bool(torch.isfinite(tensor).all())]
    if bad:
        raise ValueError(f"not saved in {folder}, these tensors are not finite: {', '.join(bad[:8])}")
    matrices = {f"{path}.{leaf}" for path in layers for leaf in ("lora_A", "lora_B")}
    trained = tuple(name for name in state if name not in matrices)
    counts = count_parameters(model)
    with atomic_folder(folder, NAMES) as temporary:
        blob = _serialised(state)
        (temporary / TENSORS).write_bytes(blob)
        write_json(temporary / PEFT_CONFIG, peft_config(model, layers, meta.base_name))
        card = adapter_card(meta, counts, len(layers), len(blob))
        (temporary / CARD).write_text(card, encoding="utf-8")
        digest = sha256_file(temporary / TENSORS)
        record = AdapterRecord(meta, config, layers, trained, counts, digest)
        write_json(temporary / RECORD, record.to_dict())  # Last: without it the folder is no adapter.


def load_adapter(
    folder: str | os.PathLike[str],
    model: nn.Module,
    strict: bool = True,
    *,
    base_fingerprint: str | None = None,
) -> AdapterMeta:
    """Put the adapter of a folder into its base model, in place: all of it, or an error and nothing changed.

    Adapters, and what was trained beside them, are trainable afterwards, the rest is frozen; the global
    random generators are left alone.

    Args:
        folder: as `save_adapter` wrote it.
        model: the base, without adapters.
        strict: False lets tensors be missing or left over, with a warning; a wrong base or shape is always an
            error.
        base_fingerprint: the model's; default: its attribute `fingerprint`.

    Returns:
        What the adapter remembers.

    Raises:
        ValueError: no adapter, half written or changed since; made for another base; tensors that are
            missing, left over or misshapen; a model that is adapted already. The message names folder and
            tensors.
    """
    record = read_adapter(folder)
    if has_lora(model):
        raise ValueError(f"{folder} was not loaded: the model has adapters already, load it into a fresh base")
    _check_base(folder, model, record.meta, base_fingerprint)
    file = Path(folder) / TENSORS
    state = _read_tensors(file)
    try:
        check_plan(model, record.layers)
        left_out = check_adapter_tensors(_expected(model, record), state, strict)
    except ValueError as error:
        raise ValueError(f"{folder} was not loaded: {error}") from error
    odd = collapse_paths(left_out.missing_keys + left_out.unexpected_keys)
    if odd:
        warnings.warn(f"{folder}: not strict; missing or left over: {', '.join(odd)}", stacklevel=2)
    elif sha256_file(file) != record.sha256:
        raise ValueError(f"{file} is not the file that was saved: damaged, or changed since")
    model.requires_grad_(False)
    # A generator of its own: what is drawn here is overwritten, and must not shift anybody's random numbers.
    inject_planned(model, record.layers, torch.Generator().manual_seed(0))
    for name, parameter in model.named_parameters():
        if name in record.trained:
            parameter.requires_grad_(True)
    load_lora_state_dict(model, state, strict)
    return record.meta


def adapter_file_bytes(model: nn.Module) -> int:
    """Return the exact size of `adapter_model.safetensors` for an adapted model, on any device or meta."""
    state = get_lora_state_dict(model)
    return len(_serialised({name: torch.zeros(x.shape, dtype=x.dtype) for name, x in state.items()}))


def _serialised(state: Mapping[str, Tensor]) -> bytes:
    tensors = {to_peft_name(name): tensor.cpu().contiguous() for name, tensor in state.items()}
    return save(tensors, metadata={"format": "pt"})


def _check_base(folder: str | os.PathLike[str], model: nn.Module, meta: AdapterMeta, fingerprint: str | None) -> None:
    came = fingerprint or getattr(model, "fingerprint", None)
    if not isinstance(came, str):
        raise ValueError(f"{folder} was not loaded: the model has no fingerprint, give base_fingerprint")
    if came != meta.base_fingerprint:
        raise ValueError(
            f"{folder} was not loaded: it was trained on the base {meta.base_name!r} with the fingerprint "
            f"{meta.base_fingerprint}, this model's is {came}; load the base that it was trained on"
        )


def _read_tensors(file: Path) -> dict[str, Tensor]:
    try:
        return {from_peft_name(name): tensor for name, tensor in load_file(file).items()}
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"{file} is half written or not an adapter's: {error}") from error


def _expected(model: nn.Module, record: AdapterRecord) -> dict[str, Tensor]:
    """Return, as empty tensors by name, what the adapter must hold to fit the model and its own record."""
    expected: dict[str, Tensor] = {}
    for path, options in record.layers.items():
        linear = model.get_submodule(path)
        assert isinstance(linear, nn.Linear)
        expected[f"{path}.lora_A"] = torch.empty(options.rank, linear.in_features, device="meta")
        expected[f"{path}.lora_B"] = torch.empty(linear.out_features, options.rank, device="meta")
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    for name in record.trained:
        if name not in tensors:
            raise ValueError(f"it trained {name}, which the model does not have")
        expected[name] = tensors[name]
    return expected
