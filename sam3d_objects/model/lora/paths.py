"""Dotted module paths: many shown as a few, and those near to a name that matched none."""

import difflib
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

_WORD = re.compile(r"[A-Za-z0-9_]+")
_Template = tuple[str | None, ...]  # The parts of a path; None stands for a number.


def group_paths(paths: Iterable[str]) -> dict[str, list[str]]:
    """Group paths that differ in their numbers alone.

    `blocks.0.to_q`, `blocks.1.to_q` become one key `blocks.{0..1}.to_q`. A key stands for exactly its paths:
    where they don't fill the grid of their numbers, only the last number is collapsed.
    """
    kinds: dict[_Template, list[str]] = defaultdict(list)
    for path in paths:
        kinds[tuple(None if _is_number(part) else part for part in path.split("."))].append(path)
    groups: dict[str, list[str]] = {}
    for template, members in kinds.items():
        numbers = [_numbers(path) for path in members]
        if math.prod(len(set(column)) for column in zip(*numbers, strict=True)) == len(set(numbers)):
            groups[_fill(template, numbers)] = members
            continue
        rows: dict[tuple[int, ...], list[str]] = defaultdict(list)
        for path in members:
            rows[_numbers(path)[:-1]].append(path)
        for row in rows.values():
            groups[_fill(template, [_numbers(path) for path in row])] = row
    return groups


def collapse_paths(paths: Iterable[str]) -> list[str]:
    """Return the keys of `group_paths`."""
    return list(group_paths(paths))


def nearest_paths(pattern: str, paths: Sequence[str], count: int = 3) -> list[str]:
    """Return up to `count` collapsed paths that a pattern probably meant, best first; empty for no paths.

    Paths that hold the most of the pattern's own words come first; among equals the most similar text.
    """
    words = set(_WORD.findall(pattern)) - {"re"}

    def likeness(path: str) -> tuple[int, float]:
        return len(words & set(path.split("."))), difflib.SequenceMatcher(None, pattern, path).ratio()

    return sorted(collapse_paths(paths), key=likeness, reverse=True)[:count]


def _is_number(part: str) -> bool:
    return part.isdecimal() and part.isascii() and len(part) < 10


def _numbers(path: str) -> tuple[int, ...]:
    return tuple(int(part) for part in path.split(".") if _is_number(part))


def _fill(template: _Template, numbers: Sequence[tuple[int, ...]]) -> str:
    columns = iter(zip(*numbers, strict=True))
    return ".".join(_range_text(sorted(set(next(columns)))) if part is None else part for part in template)


def _range_text(values: Sequence[int]) -> str:
    if len(values) == 1:
        return str(values[0])
    if list(values) == list(range(values[0], values[-1] + 1)):
        return f"{{{values[0]}..{values[-1]}}}"
    return "{" + ",".join(map(str, values)) + "}"
