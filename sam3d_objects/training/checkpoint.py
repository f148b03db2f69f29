"""The state of a run on disk: one safetensors file, whole or absent.

Tensors are stored as they are; everything else (counters, scores, histories) is JSON in the file's metadata.
One file, replaced in one step, cannot disagree with itself however the process dies.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sam3d_objects.files import atomic_path
from sam3d_objects.training.sharding import spread_as

FORMAT = "sam3d-medical run state 1"
_SEPARATOR = "/"
_ABSENT = object()


@dataclass(frozen=True)
class RunState:
    """What a run needs to go on: named groups of tensors and JSON values."""

    tensors: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)


def save_run_state(path: Path, state: RunState) -> None:
    """Write the state atomically.

    Raises:
        ValueError: a value is not JSON (NaN and infinity are not).
        OSError: the file cannot be written (a full disk); an older state stays as it was.
    """
    flat = {
        f"{group}{_SEPARATOR}{name}": tensor.detach().cpu().contiguous()
        for group, tensors in state.tensors.items()
        for name, tensor in tensors.items()
    }
    metadata = {"format": FORMAT, "values": json.dumps(state.values, allow_nan=False)}
    with atomic_path(path) as temporary:
        save_file(flat, temporary, metadata=metadata)


def load_run_state(path: Path) -> RunState:
    """Read a state back, on the CPU.

    Raises:
        FileNotFoundError: there is none.
        ValueError: the file is truncated, or is no run state; the message names it.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no run state at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            # Clones: safetensors hands out views of a mapped file that the next checkpoint replaces.
            flat = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (not a dict)
    except SafetensorError as error:
        raise ValueError(f"{path} is no whole run state ({error}): delete it to start the run anew") from error
    if metadata.get("format") != FORMAT:
        raise ValueError(f"{path}: expected the format {FORMAT!r}, got {metadata.get('format')!r}")
    tensors: dict[str, dict[str, Tensor]] = {}
    for name, tensor in flat.items():
        group, _, rest = name.partition(_SEPARATOR)
        tensors.setdefault(group, {})[rest] = tensor
    return RunState(tensors, json.loads(metadata["values"]))


def optimizer_tensors(optimizer: torch.optim.Optimizer, names: Mapping[Tensor, str]) -> dict[str, Tensor]:
    """Return the optimiser's tensors as ``{parameter name}|{slot}`` (of AdamW: step, exp_avg, exp_avg_sq)."""
    return {
        f"{names[parameter]}|{slot}": value
        for parameter, slots in optimizer.state.items()
        for slot, value in slots.items()
    }


def restore_optimizer(
    optimizer: torch.optim.Optimizer, names: Mapping[Tensor, str], tensors: Mapping[str, Tensor]
) -> None:
    """Put back what `optimizer_tensors` returned, where the parameters are (`step` stays on the CPU)."""
    parameters = {name: parameter for parameter, name in names.items()}
    optimizer.state.clear()
    for key, value in tensors.items():
        name, _, slot = key.rpartition("|")
        parameter = parameters[name]
        optimizer.state[parameter][slot] = value if slot == "step" else spread_as(value, parameter)


def differences(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return one line for each leaf in which two nested records differ: its dotted name, both values."""
    old, new = _flatten(was), _flatten(now)
    return [
        f"{name}: the run has {old.get(name, 'nothing')!r}, now {new.get(name, 'nothing')!r}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name, _ABSENT) != new.get(name, _ABSENT)
    ]


def _flatten(record: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in record.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
