"""Adapters as text for people: a registry's table, and all that one remembers."""

import json
import math
from collections.abc import Sequence
from itertools import groupby

from sam3d_objects.adapter.card import RESEARCH_USE, licence_notice
from sam3d_objects.adapter.record import AdapterRecord
from sam3d_objects.adapter.registry.difference import Difference
from sam3d_objects.adapter.registry.folder import Entry
from sam3d_objects.model.lora import collapse_paths

_HEAD = ("name", "stage", "organs", "base", "rank", "parameters", "Dice", "size")
_RIGHT = {"rank", "parameters", "Dice", "size"}
# By preference: at the threshold that the contract holds, else over all.
_DICE = ("dice_at_threshold", "dice")
_WIDEST = 40
_SHOWN = 12
_MOST_OPTIONS = 40


def registry_table(entries: Sequence[Entry]) -> str:
    """Return the adapters as an aligned table, and below it those that can't be read, with the reason."""
    good = [(entry, entry.record) for entry in entries if entry.record is not None]
    rows = [_HEAD, *(_row(entry, record) for entry, record in good)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    lines = [
        "  ".join(
            cell.rjust(width) if head in _RIGHT else cell.ljust(width)
            for cell, width, head in zip(row, widths, _HEAD, strict=True)
        ).rstrip()
        for row in rows
    ]
    broken = [f"! {entry.name or '.'}: {entry.problem}" for entry in entries if entry.record is None]
    return "\n".join([*(lines if good else ["no adapters"]), *broken])


def info_text(record: AdapterRecord, tensor_bytes: int) -> str:
    """Return all that an adapter remembers, and what may be done with it."""
    meta = record.meta
    counts = record.parameters
    contract = ", ".join(f"{name} {_plain(value)}" for name, value in meta.to_dict()["contract"].items())
    rows = [
        ("stage", meta.stage),
        ("organs", ", ".join(meta.organs)),
        ("base", f"{meta.base_name}, fingerprint {meta.base_fingerprint}"),
        ("layers", _layers(record)),
        ("trained fully", ", ".join(collapse_paths(record.trained)) or "nothing"),
        ("parameters", f"{counts.get('trainable', 0):,} trained of {counts.get('total', 0):,}"),
        ("size", f"{size_text(tensor_bytes)}, SHA-256 {record.sha256}"),
        ("use", contract),
        ("data", f"fingerprint {meta.data_fingerprint or 'not recorded'}"),
        ("written by", f"sam3d-medical {meta.version}"),
    ]
    lines = [f"{name:<14}{text}" for name, text in rows]
    lines += ["", "scores"]
    lines += [f"  {name:<28}{_score(value)}" for name, value in meta.metrics.items()] or ["  none were recorded"]
    return "\n".join([*lines, "", "licence", f"  {licence_notice(meta.base_name)}", "", RESEARCH_USE])


def difference_text(difference: Difference) -> str:
    """Return a comparison as text: options, what one has alone, and the layers that differ most first."""
    lines = []
    if difference.options:
        lines.append("options that differ: first, second")
        told = [f"  {name}: {_plain(a)}, {_plain(b)}" for name, (a, b) in difference.options.items()]
        lines += told[:_MOST_OPTIONS] + [f"  {len(told) - _MOST_OPTIONS} more"] * (len(told) > _MOST_OPTIONS)
    for title, names in (("only in the first", difference.only_first), ("only in the second", difference.only_second)):
        if names:
            lines += [title, *(f"  {line}" for line in collapse_paths(names))]
    for title, values in (
        ("updates B A of layers, |first - second| / |first|", difference.updates),
        ("tensors that were trained fully, |first - second| / |first|", difference.tensors),
    ):
        changed = sorted(((v, n) for n, v in values.items() if v), reverse=True)
        if changed:
            lines.append(f"{title}: {len(changed)} of {len(values)} differ")
            lines += [f"  {_share(value):>9}  {name}" for value, name in changed[:_SHOWN]]
            lines += [f"  {len(changed) - _SHOWN} more, down to {_share(changed[-1][0])}"] * (len(changed) > _SHOWN)
    verdict = "both compute the same" if difference.same else "they compute different things"
    return "\n".join([*lines, verdict])


def size_text(count: int) -> str:
    """Return bytes as text, such as `1.5 MB`."""
    value, unit = float(count), "B"
    for larger in ("kB", "MB", "GB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"


def _row(entry: Entry, record: AdapterRecord) -> tuple[str, ...]:
    meta = record.meta
    dice = next((meta.metrics[name] for name in _DICE if isinstance(meta.metrics.get(name), int | float)), None)
    return (
        entry.name or ".",
        meta.stage,
        _short(", ".join(meta.organs)),
        _short(meta.base_name),
        _ranks(record),
        f"{record.parameters.get('trainable', 0):,}",
        "" if dice is None else f"{dice:.3f}",
        size_text(entry.tensor_bytes),
    )


def _ranks(record: AdapterRecord) -> str:
    ranks = sorted({options.rank for options in record.layers.values()})
    if not ranks:
        return "full"
    return str(ranks[0]) if len(ranks) == 1 else f"{ranks[0]} to {ranks[-1]}"


def _layers(record: AdapterRecord) -> str:
    if not record.layers:
        return "none: the module was trained without LoRA"
    kinds = sorted((x.rank, x.alpha) for x in record.layers.values())
    told = (f"{len(list(group))} of rank {rank}, alpha {alpha:g}" for (rank, alpha), group in groupby(kinds))
    return f"{len(record.layers)} adapted: {'; '.join(told)}"


def _score(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_score(inner)}" for name, inner in value.items())
    return "no value" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _share(value: float) -> str:
    return "all" if math.isinf(value) else f"{100 * value:.3g} %"


def _plain(value: object) -> str:
    if isinstance(value, tuple | list):
        return " ".join(map(_plain, value)) or "none"
    if isinstance(value, float):
        return f"{value:g}"
    return _short(value if isinstance(value, str) else json.dumps(value, default=str))


def _short(text: str) -> str:
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 3]}..."
