"""JSON that a stranger wrote: bounded in size, depth and numbers, without duplicate keys, plain text only."""

import json
import math
from pathlib import Path
from typing import Any, NoReturn

from sam3d_objects.adapter.untrusted.entries import read_bytes
from sam3d_objects.adapter.untrusted.limits import (
    MOST_DIGITS,
    MOST_JSON_BYTES,
    MOST_JSON_DEPTH,
    MOST_JSON_VALUES,
    MOST_WHOLE,
)

_OPENS, _CLOSES, _QUOTE, _ESCAPE = frozenset("[{"), frozenset("]}"), '"', "\\"
# They turn around what a terminal or a page shows after them.
_TURNING = {*range(0x202A, 0x202F), *range(0x2066, 0x206A)}


def read_json_file(path: Path, most_bytes: int = MOST_JSON_BYTES) -> Any:
    """Read a JSON file; see `parse_json`, whose errors name the file here.

    Raises:
        ValueError: also where it is no plain file, or too large.
        FileNotFoundError: there is no such file.
    """
    return parse_json(read_bytes(path, most_bytes), str(path))


def parse_json(content: bytes, where: str) -> Any:
    """Parse JSON of bounded depth, size and numbers.

    Args:
        content: UTF-8.
        where: what it is, for errors.

    Raises:
        ValueError: it is not JSON, nests too deep, has a key twice, too many values, NaN, infinity or a number that no
            record needs, or text with control characters (which a terminal would obey).
    """
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{where} is not valid JSON: {error}. It may be half written.") from error
    _check_depth(text, where)
    reader = _Reader(where)
    try:
        value = json.loads(
            text,
            object_pairs_hook=reader.object,
            parse_int=reader.whole,
            parse_float=reader.real,
            parse_constant=reader.constant,
        )
    except json.JSONDecodeError as error:
        raise ValueError(f"{where} is not valid JSON: {error}. It may be half written.") from error
    reader.check_texts(value)
    return value


def _check_depth(text: str, where: str) -> None:
    """Count brackets outside of texts, before a parser recurses into them."""
    depth, quoted, escaped = 0, False, False
    for letter in text:
        if quoted:
            quoted = escaped or letter != _QUOTE
            escaped = letter == _ESCAPE and not escaped
        elif letter == _QUOTE:
            quoted = True
        elif letter in _OPENS:
            depth += 1
            if depth > MOST_JSON_DEPTH:
                raise ValueError(f"{where} nests deeper than {MOST_JSON_DEPTH} brackets: not read")
        elif letter in _CLOSES:
            depth -= 1


class _Reader:
    """What the parser asks for each value; it counts them."""

    def __init__(self, where: str) -> None:
        self.where, self.values = where, 0

    def object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise ValueError(f"{self.where} has the key {twice[:80]!r} twice: two readers would read two things")
        return made

    def whole(self, digits: str) -> int:
        self._check_length(digits)
        value = int(digits)
        if abs(value) >= MOST_WHOLE:
            raise ValueError(f"{self.where} holds the whole number {digits[:24]}..., which counts nothing real")
        return value

    def real(self, digits: str) -> float:
        self._check_length(digits)
        value = float(digits)
        if not math.isfinite(value):
            raise ValueError(f"{self.where} holds {digits[:24]}, which is no finite number")
        return value

    def constant(self, name: str) -> NoReturn:
        raise ValueError(f"{self.where} holds {name}, which JSON does not have: give null where there is no value")

    def check_texts(self, value: Any) -> None:
        """Walk through all values; they nest at most `MOST_JSON_DEPTH` deep."""
        self.values += 1
        if self.values > MOST_JSON_VALUES:
            raise ValueError(f"{self.where} holds more than {MOST_JSON_VALUES:,} values: not read")
        if isinstance(value, str):
            self._check_text(value)
        elif isinstance(value, dict):
            for key, inner in value.items():
                self._check_text(key)
                self.check_texts(inner)
        elif isinstance(value, list):
            for inner in value:
                self.check_texts(inner)

    def _check_text(self, text: str) -> None:
        for letter in text:
            code = ord(letter)
            control = (code < 32 and letter not in "\n\t") or 127 <= code < 160
            if control or 0xD800 <= code < 0xE000 or code in _TURNING:
                raise ValueError(
                    f"{self.where} holds text with the control character U+{code:04X}: not shown, not used"
                )

    def _check_length(self, digits: str) -> None:
        if len(digits) > MOST_DIGITS:
            raise ValueError(f"{self.where} holds a number of {len(digits):,} digits: not read")
