"""The adapter folder: written whole or not at all, loaded strictly or not at all.

- `adapter_model.safetensors`: every tensor that was trained, A, B and heads (names: `peft_format`); without LoRA,
  where a module was trained fully, all of its weights
- `adapter_config.json`: for PEFT, with its keys only; never read here
- `sam3d.json`: ours (`record`): stage, base, inference contract, options of each layer
- `README.md`: a card for people (`card`)
"""

import os
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn

from sam3d_objects.adapter.atomic import atomic_folder
from sam3d_objects.adapter.card import adapter_card
from sam3d_objects.adapter.meta import AdapterMeta
from sam3d_objects.adapter.peft_format import OURS_ALONE, from_peft_name, looked_up, peft_config, to_peft_name
from sam3d_objects.adapter.record import (
    CARD,
    NAMES,
    PEFT_CONFIG,
    RECORD,
    TENSORS,
    AdapterRecord,
    read_adapter,
)
from sam3d_objects.adapter.untrusted import read_tensor_file
from sam3d_objects.files import sha256_file, write_json
from sam3d_objects.model.lora import (
    DEFAULT_ADAPTER,
    LayerOptions,
    LoadResult,
    LoRAConfig,
    active_adapters,
    adapter_names,
    check_adapter_tensors,
    check_plan,
    collapse_paths,
    count_parameters,
    frame_of,
    get_lora_state_dict,
    has_lora,
    inject_planned,
    load_lora_state_dict,
    lora_layers,
    note_beside,
)


def save_adapter(
    folder: str | os.PathLike[str],
    model: nn.Module,
    config: LoRAConfig,
    meta: AdapterMeta,
    *,
    adapter: str | None = None,
) -> None:
    """Write the adapter of a model as a folder, replacing an older adapter there.

    Args:
        folder: new, empty, or an adapter's.
        model: with adapters; what else is unfrozen in it is saved as well.
        config: the options that the adapters were made with, to be remembered; each layer's own are read off
            it. One that is `without_lora` saves a model that trains fully.
        meta: `meta.base_fingerprint` is that of the base before the adapters went in.
        adapter: which of the model's adapters; by default the one in use. The folder does not keep its name.

    Raises:
        ValueError: the model has no (such) adapter, several are in use, a tensor is not finite or has no values (meta
            device), or the folder holds other files; nothing is written.
        OSError: the folder can't be written (a full disk); an older adapter there stays as it was.
    """
    found, name = lora_layers(model), _in_use(folder, model) if adapter is None else adapter
    layers = {path: layer.options[name] for path, layer in found.items() if name in layer.options}
    state = get_lora_state_dict(model, name)
    if not state or not (layers or config.without_lora):
        raise ValueError(f"nothing to save in {folder}: the model has no adapter (or it is merged already)")
    bad = [name for name, tensor in state.items() if tensor.is_meta or not bool(torch.isfinite(tensor).all())]
    if bad:
        raise ValueError(f"not saved in {folder}, these tensors are not finite: {', '.join(bad[:8])}")
    own = {f"{path}.{leaf}" for path, options in layers.items() for leaf in found[path].frame.shapes(options)}
    trained = tuple(name for name in state if name not in own)
    counts = count_parameters(model)
    with atomic_folder(folder, NAMES) as temporary:
        blob = _serialised(state, looked_up(model))
        (temporary / TENSORS).write_bytes(blob)
        theirs = peft_config(model, layers, meta.base_name)
        write_json(temporary / PEFT_CONFIG, theirs)
        card = adapter_card(meta, counts, len(layers), len(blob), peft_reads=theirs["peft_type"] != OURS_ALONE)
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
    adapter: str = DEFAULT_ADAPTER,
) -> AdapterMeta:
    """Put the adapter of a folder into its base model, in place: all of it, or an error and nothing changed.

    Adapters, and what was trained beside them, are trainable afterwards, the rest is frozen; the global
    random generators are left alone.

    Args:
        folder: as `save_adapter` wrote it.
        model: the base, without adapters or with others (see `adapter`).
        strict: False lets tensors be missing or left over, with a warning; a wrong base or shape is always an
            error.
        base_fingerprint: the model's; default: its attribute `fingerprint`.
        adapter: the name that it gets in the model. Beside others, it is the one in use afterwards.

    Returns:
        What the adapter remembers.

    Raises:
        ValueError: no adapter, half written or changed since; made for another base; tensors that are
            missing, left over or misshapen; a model that is adapted already. The message names folder and
            tensors.
    """
    record = read_adapter(folder)
    if adapter in adapter_names(model) or (has_lora(model) and not record.layers):
        raise ValueError(
            f"{folder} was not loaded: the model has adapters already, load it into a fresh base"
            + (f", or under another name than {adapter!r}" if record.layers else "")
        )
    _check_base(folder, model, record.meta, base_fingerprint)
    file = Path(folder) / TENSORS
    state = read_state(file)
    try:
        left_out = check_fits(model, record.layers, record.trained, state, strict, adapter)
    except ValueError as error:
        raise ValueError(f"{folder} was not loaded: {error}") from error
    odd = collapse_paths(left_out.missing_keys + left_out.unexpected_keys)
    if odd:
        warnings.warn(f"{folder}: not strict; missing or left over: {', '.join(odd)}", stacklevel=2)
    elif sha256_file(file) != record.sha256:
        raise ValueError(f"{file} is not the file that was saved: damaged, or changed since")
    try:
        install(model, record.layers, record.trained, state, strict, adapter)
    except ValueError as error:
        raise ValueError(f"{folder} was not loaded: {error}") from error
    return record.meta


def adapter_file_bytes(model: nn.Module) -> int:
    """Return the exact size of `adapter_model.safetensors` for an adapted model, on any device or meta."""
    state = get_lora_state_dict(model)
    empty = {name: torch.zeros(x.shape, dtype=x.dtype) for name, x in state.items()}
    return len(_serialised(empty, looked_up(model)))


def _in_use(folder: str | os.PathLike[str], model: nn.Module) -> str:
    """Return the adapter that is meant where none is named."""
    names = list(active_adapters(model)) or adapter_names(model) or [DEFAULT_ADAPTER]
    if len(names) > 1:
        raise ValueError(f"nothing saved in {folder}: name one of the adapters {', '.join(names)}")
    return names[0]


def _serialised(state: Mapping[str, Tensor], embeddings: Collection[str]) -> bytes:
    tensors = {to_peft_name(name, embeddings): tensor.cpu().contiguous() for name, tensor in state.items()}
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


def read_state(file: Path) -> dict[str, Tensor]:
    """Return the tensors of a file with PEFT's names, by ours.

    Raises:
        ValueError: the file is damaged or not an adapter's, or two names mean one tensor.
    """
    state: dict[str, Tensor] = {}
    for name, tensor in read_tensor_file(file).items():
        try:
            own = from_peft_name(name)
        except ValueError as error:
            raise ValueError(f"{file} is not an adapter's: {error}") from error
        if own in state:
            raise ValueError(f"{file} holds {own} twice, the second time as {name}: refused")
        state[own] = tensor
    return state


def check_fits(
    model: nn.Module,
    layers: Mapping[str, LayerOptions],
    trained: Collection[str],
    state: Mapping[str, Tensor],
    strict: bool = True,
    adapter: str = DEFAULT_ADAPTER,
) -> LoadResult:
    """Raise ValueError unless an adapter's tensors are finite and fit a model; neither is changed.

    Args:
        model: without this adapter.
        layers: path -> options of each layer that is to be adapted.
        trained: names of the model's own tensors that come beside them.
        state: all tensors by our names.
        strict: False returns tensors that are missing or left over instead of refusing them.
        adapter: the name that it is to have in the model.
    """
    check_plan(model, layers, adapter)
    expected = _expected(model, layers, trained)
    left_out = check_adapter_tensors(expected, state, strict)
    bad = [
        name
        for name, needed in expected.items()
        if name in state and needed.is_floating_point() and not bool(torch.isfinite(state[name].to(needed.dtype)).all())
    ]
    if bad:
        raise ValueError(f"it holds NaN or infinity in {', '.join(bad[:8])}")
    return left_out


def install(
    model: nn.Module,
    layers: Mapping[str, LayerOptions],
    trained: Collection[str],
    state: Mapping[str, Tensor],
    strict: bool = True,
    adapter: str = DEFAULT_ADAPTER,
) -> None:
    """Put what `check_fits` found to fit into the model, and let that train and nothing else."""
    if not has_lora(model):
        model.requires_grad_(False)
    inject_planned(model, layers, adapter=adapter, draw=False)
    for name, parameter in model.named_parameters():
        if name in trained:
            parameter.requires_grad_(True)
    if layers:
        note_beside(model)
    load_lora_state_dict(model, state, strict, adapter if layers else None)


def _expected(model: nn.Module, layers: Mapping[str, LayerOptions], trained: Collection[str]) -> dict[str, Tensor]:
    """Return, as empty tensors by name, what an adapter must hold to fit the model and its own record."""
    expected: dict[str, Tensor] = {}
    for path, options in layers.items():
        shapes = frame_of(model.get_submodule(path)).shapes(options)
        expected |= {f"{path}.{leaf}": torch.empty(shape, device="meta") for leaf, shape in shapes.items()}
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    for name in trained:
        if name not in tensors:
            raise ValueError(f"it trained {name}, which the model does not have")
        expected[name] = tensors[name]
    return expected
