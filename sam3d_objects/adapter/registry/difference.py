"""What two adapters have not in common: options, tensors, and how far apart their updates are."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from sam3d_objects.adapter.exchange.product import distance
from sam3d_objects.adapter.folder import read_state
from sam3d_objects.adapter.record import TENSORS, AdapterRecord, read_adapter
from sam3d_objects.arrays import FloatArray
from sam3d_objects.model.lora import LayerOptions


@dataclass(frozen=True)
class Difference:
    """Two adapters, first and second.

    Attributes:
        options: dotted name of what they remember -> value of the first and of the second; None where one lacks it.
        only_first, only_second: layers (by path) and fully trained tensors (by name) that one of them has alone.
        updates: path of a layer that both adapt -> |U1 - U2| / |U1| of its updates U = alpha / rank B A (Frobenius
            norms): A and B alone say nothing, for many of them have one product. Infinite where U1 alone is zero. With
            DoRA, the difference of the learned lengths where that is larger.
        tensors: name of a fully trained tensor of both -> |t1 - t2| / |t1|, or infinite where the shapes differ.
    """

    options: Mapping[str, tuple[Any, Any]]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    updates: Mapping[str, float]
    tensors: Mapping[str, float]

    @property
    def same(self) -> bool:
        """Whether both compute the same, whatever else they remember."""
        values = (*self.updates.values(), *self.tensors.values())
        return not (self.only_first or self.only_second or any(values))


def compare_adapters(first: Path, second: Path) -> Difference:
    """Compare two adapter folders, without their base.

    Raises:
        ValueError: one is no adapter, or damaged; see `read_adapter`.
    """
    records = [read_adapter(folder) for folder in (first, second)]
    states = [read_state(folder / TENSORS) for folder in (first, second)]
    holds = [[*record.layers, *record.trained] for record in records]
    return Difference(
        options=_options(*records),
        only_first=tuple(name for name in holds[0] if name not in holds[1]),
        only_second=tuple(name for name in holds[1] if name not in holds[0]),
        updates={path: _layer_apart(records, states, path) for path in records[0].layers if path in records[1].layers},
        tensors={
            name: _relative(_number(states[0], name), _number(states[1], name))
            for name in records[0].trained
            if name in records[1].trained
        },
    )


def _options(first: AdapterRecord, second: AdapterRecord) -> dict[str, tuple[Any, Any]]:
    ours, theirs = (
        _flat({"adapter": record.meta.to_dict(), "lora": record.config.to_dict()}) for record in (first, second)
    )
    names = dict.fromkeys((*ours, *theirs))
    return {name: (ours.get(name), theirs.get(name)) for name in names if ours.get(name) != theirs.get(name)}


def _flat(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{before}{key}"
        flat |= _flat(value, f"{name}.") if isinstance(value, Mapping) and value else {name: _plain(value)}
    return flat


def _plain(value: Any) -> Any:
    return [_plain(inner) for inner in value] if isinstance(value, tuple | list) else value


def _update(record: AdapterRecord, state: Mapping[str, Tensor], path: str) -> tuple[FloatArray, FloatArray]:
    """Return the factors (R, k) and (m, R) of a layer's update, the scaling in the second."""
    options = record.layers[path]
    pairs = [("lora_A", "lora_B", options.scaling)]
    if options.init == "pissa":
        pairs.append(("lora_A0", "lora_B0", -options.scaling))  # where it started, which is not part of the update
    rows, columns = [], []
    for a_name, b_name, scale in pairs:
        a, b = _number(state, f"{path}.{a_name}"), _number(state, f"{path}.{b_name}")
        rows.append(a.reshape(len(a), -1))
        columns.append(scale * _spread(b.reshape(len(b), -1), options))
    return np.concatenate(rows, axis=0), np.concatenate(columns, axis=1)


def _spread(b: FloatArray, options: LayerOptions) -> FloatArray:
    """Return B as (m, R): the blocks of a fused layer's parts on a diagonal, zeros where a part is left alone."""
    if not options.parts:
        return b
    block = len(b) // len(options.places)
    spread = np.zeros((block * options.blocks, options.total_rank))
    for number, place in enumerate(options.places):
        columns = slice(number * options.rank, (number + 1) * options.rank)
        spread[place * block : (place + 1) * block, columns] = b[number * block : (number + 1) * block]
    return spread


def _layer_apart(records: Sequence[AdapterRecord], states: Sequence[Mapping[str, Tensor]], path: str) -> float:
    first, second = (_update(record, state, path) for record, state in zip(records, states, strict=True))
    apart = _apart(first, second)
    if not any(record.layers[path].dora for record in records):
        return apart
    # DoRA's lengths are those of the base's rows as well: here they stand for themselves.
    lengths = [state.get(f"{path}.lora_magnitude") for state in states]
    if lengths[0] is None or lengths[1] is None:
        return math.inf
    return max(apart, _relative(lengths[0].double().numpy(), lengths[1].double().numpy()))


def _apart(first: tuple[FloatArray, FloatArray], second: tuple[FloatArray, FloatArray]) -> float:
    (a1, b1), (a2, b2) = first, second
    if (a1.shape[1], b1.shape[0]) != (a2.shape[1], b2.shape[0]):
        return math.inf
    if not (b1.any() and a1.any()):
        return math.inf if b2.any() and a2.any() else 0.0
    return distance(b1, a1, a2, b2)


def _number(state: Mapping[str, Tensor], name: str) -> FloatArray:
    if name not in state:
        raise ValueError(f"the tensor file lacks {name}, which its record names")
    return state[name].double().numpy()


def _relative(first: FloatArray, second: FloatArray) -> float:
    if first.shape != second.shape:
        return math.inf
    apart, size = float(np.linalg.norm(first - second)), float(np.linalg.norm(first))
    return apart / size if size else (math.inf if apart else 0.0)
