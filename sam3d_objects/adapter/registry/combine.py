"""One adapter that is the weighted sum of several of one base, exactly.

The sum of w_i s_i B_i A_i has the factors [w_1 s_1 B_1, w_2 s_2 B_2, ...] and [A_1; A_2; ...]: its rank is the sum of
theirs, and nothing is lost. Cut back to a smaller rank it is the nearest that this rank allows (Eckart and Young 1936).
Adding up A and B apart would give something else (see `adapter.exchange.averaging`).
"""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from sam3d_objects.adapter.exchange.product import as_factors, distance, truncated
from sam3d_objects.adapter.folder import install, load_adapter, save_adapter
from sam3d_objects.adapter.meta import AdapterMeta
from sam3d_objects.adapter.record import AdapterRecord, read_adapter
from sam3d_objects.model.lora import (
    LayerOptions,
    LoRAConfig,
    adapter_names,
    combine_adapters,
    delete_adapter,
    get_lora_state_dict,
    lora_layers,
)

_SUM = "sum"
_PREPARED_BY = ("field_of_view", "margin_mm", "modality", "window_hu", "percentiles")


@dataclass(frozen=True)
class Part:
    """One adapter of a sum, and its weight."""

    folder: Path
    weight: float


def sum_adapters(
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
        ValueError: no part, adapters that do not belong together or to this base, are damaged, or whose sum has no low
            rank (DoRA).
    """
    if not parts or not all(math.isfinite(part.weight) for part in parts):
        raise ValueError("a sum has at least one adapter, and finite weights")
    records = [read_adapter(part.folder) for part in parts]
    _check_together(parts, records, base_fingerprint)
    for number, part in enumerate(parts):
        load_adapter(part.folder, base, base_fingerprint=base_fingerprint, adapter=f"part{number}")
    combine_adapters(base, {f"part{number}": part.weight for number, part in enumerate(parts)}, _SUM)
    layers = {path: layer.options[_SUM] for path, layer in lora_layers(base).items() if _SUM in layer.options}
    state = get_lora_state_dict(base, _SUM)
    for name in adapter_names(base):
        delete_adapter(base, name)
    worst = 0.0
    if rank is not None:
        for path in layers:
            worst = max(worst, _cut(path, state, rank))
        layers = dict.fromkeys(layers, LayerOptions(rank=rank, alpha=float(rank)))
    matrices = {f"{path}.{leaf}" for path in layers for leaf in ("lora_A", "lora_B")}
    trained = tuple(name for name in state if name not in matrices)
    install(base, layers, trained, state)
    patterns = {path: {"rank": x.rank, "alpha": x.alpha} for path, x in layers.items()}
    config = LoRAConfig(target_modules=(), patterns=patterns, trained_modules=trained)
    save_adapter(out, base, config, _meta(parts, records))
    return worst


def _check_together(parts: Sequence[Part], records: Sequence[AdapterRecord], fingerprint: str) -> None:
    first = records[0].meta
    for part, record in zip(parts, records, strict=True):
        meta = record.meta
        if not record.layers:
            raise ValueError(f"{part.folder} was trained without LoRA: whole networks are not added up")
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


def _cut(path: str, state: dict[str, Tensor], rank: int) -> float:
    """Put a layer's nearest matrices of a rank (and scaling 1) in the place of its own; return what is lost."""
    names = [f"{path}.{leaf}" for leaf in ("lora_A", "lora_B")]
    down, up = (state[name] for name in names)
    right, left = as_factors(down.cpu().numpy(), up.cpu().numpy(), path)
    length = float(np.linalg.norm(right, axis=1).mean()) or 1.0
    a, b = truncated(left, right, rank, length)
    for name, made, shape in zip(
        names, (a, b), ((rank, *down.shape[1:]), (up.shape[0], rank, *up.shape[2:])), strict=True
    ):
        state[name] = torch.from_numpy(made).to(down.dtype).view(shape)
    return distance(left, right, a, b)


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
