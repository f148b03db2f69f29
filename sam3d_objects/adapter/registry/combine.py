"""One adapter that is the weighted sum of several of one base, exactly.

The sum of w_i s_i B_i A_i has the factors [w_1 s_1 B_1, w_2 s_2 B_2, ...] and [A_1; A_2; ...]: its rank is the sum of
theirs, and nothing is lost. Cut back to a smaller rank it is the nearest that this rank allows (Eckart and Young 1936).
Adding up A and B apart would give something else (see `adapter.exchange.averaging`).
"""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from sam3d_objects.adapter.exchange.product import as_factors, distance, truncated
from sam3d_objects.adapter.folder import check_fits, install, read_state, save_adapter
from sam3d_objects.adapter.meta import AdapterMeta
from sam3d_objects.adapter.record import TENSORS, AdapterRecord, read_adapter
from sam3d_objects.arrays import FloatArray
from sam3d_objects.model.lora import LayerOptions, LoRAConfig

_A, _B = ".lora_A", ".lora_B"
_PREPARED_BY = ("field_of_view", "margin_mm", "modality", "window_hu", "percentiles")


@dataclass(frozen=True)
class Part:
    """One adapter of a sum, and its weight."""

    folder: Path
    weight: float


def combine_adapters(
    parts: Sequence[Part],
    base: nn.Module,
    base_fingerprint: str,
    out: str | os.PathLike[str],
    rank: int | None = None,
) -> float:
    """Write the weighted sum of adapters as an adapter folder.

    What was trained fully beside the layers is the base's plus the weighted sum of what each changed.

    Args:
        parts: at least one; all of one stage, one base, and slices that are prepared alike.
        base: the module that they adapt, in float32 without adapters; it holds the sum afterwards.
        base_fingerprint: its base's.
        out: as `save_adapter` takes it.
        rank: of every layer of the sum; default: the sum of the ranks, which is exact.

    Returns:
        How far the worst layer's update lies from the exact sum, as a share of its norm; 0 where `rank` is not given.

    Raises:
        ValueError: no part, adapters that do not belong together or to this base, or are damaged.
    """
    if not parts or not all(math.isfinite(part.weight) for part in parts):
        raise ValueError("a sum has at least one adapter, and finite weights")
    records = [read_adapter(part.folder) for part in parts]
    _check_together(parts, records, base_fingerprint)
    states = [read_state(part.folder / TENSORS) for part in parts]
    for part, record, state in zip(parts, records, states, strict=True):
        try:
            check_fits(base, record.layers, record.trained, state)
        except ValueError as error:
            raise ValueError(f"{part.folder} does not fit the base: {error}") from error
    layers: dict[str, LayerOptions] = {}
    made: dict[str, Tensor] = {}
    worst = 0.0
    for path in dict.fromkeys(path for record in records for path in record.layers):
        a, b, lost = _layer(path, parts, records, states, rank)
        worst = max(worst, lost)
        layers[path] = LayerOptions(rank=len(a), alpha=float(len(a)), dropout=0.0)
        made |= {path + _A: torch.from_numpy(a).float(), path + _B: torch.from_numpy(b).float()}
    trained = tuple(dict.fromkeys(name for record in records for name in record.trained))
    made |= {name: _tensor(name, base, parts, states) for name in trained}
    install(base, layers, trained, made)
    patterns = {path: {"rank": x.rank, "alpha": x.alpha} for path, x in layers.items()}
    config = LoRAConfig(target_modules=(), patterns=patterns, trained_modules=trained)
    save_adapter(out, base, config, _meta(parts, records))
    return worst


def _check_together(parts: Sequence[Part], records: Sequence[AdapterRecord], fingerprint: str) -> None:
    first = records[0].meta
    for part, record in zip(parts, records, strict=True):
        meta = record.meta
        if meta.base_fingerprint != fingerprint:
            raise ValueError(
                f"{part.folder} was trained on the base {meta.base_name!r} with the fingerprint "
                f"{meta.base_fingerprint}, this one's is {fingerprint}: adapters are added up on their own base"
            )
        if meta.stage != first.stage:
            raise ValueError(f"{part.folder} is of the stage {meta.stage}, {parts[0].folder} of {first.stage}")
        for name in _PREPARED_BY:
            ours, theirs = getattr(first.contract, name), getattr(meta.contract, name)
            if ours != theirs:
                raise ValueError(f"{part.folder}: its {name} is {theirs!r}, that of {parts[0].folder} is {ours!r}")


def _layer(
    path: str,
    parts: Sequence[Part],
    records: Sequence[AdapterRecord],
    states: Sequence[Mapping[str, Tensor]],
    rank: int | None,
) -> tuple[FloatArray, FloatArray, float]:
    """Return A (r, k) and B (m, r) of the sum, with a scaling of 1, and what a smaller rank lost."""
    rows, columns = [], []
    for part, record, state in zip(parts, records, states, strict=True):
        if path in record.layers:
            options = record.layers[path]
            a, b = as_factors(state[path + _A].double().numpy(), state[path + _B].double().numpy(), path)
            rows.append(a)
            columns.append(b * (part.weight * options.alpha / options.rank))
    right, left = np.concatenate(rows, axis=0), np.concatenate(columns, axis=1)
    if rank is None:
        return right, left, 0.0
    length = float(np.linalg.norm(right, axis=1).mean()) or 1.0
    a, b = truncated(left, right, rank, length)
    return a, b, distance(left, right, a, b)


def _tensor(name: str, base: nn.Module, parts: Sequence[Part], states: Sequence[Mapping[str, Tensor]]) -> Tensor:
    own = {**dict(base.named_parameters()), **dict(base.named_buffers())}[name].detach().cpu()
    if not own.is_floating_point():
        return own.clone()
    total = own.double()
    for part, state in zip(parts, states, strict=True):
        if name in state:
            total = total + part.weight * (state[name].double() - own.double())
    return total.to(own.dtype)


def _meta(parts: Sequence[Part], records: Sequence[AdapterRecord]) -> AdapterMeta:
    first = records[0].meta
    return AdapterMeta(
        stage=first.stage,
        base_name=first.base_name,
        base_fingerprint=first.base_fingerprint,
        organs=tuple(dict.fromkeys(organ for record in records for organ in record.meta.organs)),
        contract=first.contract,
        # Nobody has measured the sum: the scores of its parts are not its own.
        metrics={},
        training={
            "sum_of": [
                {"sha256": record.sha256, "weight": part.weight, "organs": list(record.meta.organs)}
                for part, record in zip(parts, records, strict=True)
            ]
        },
    )
