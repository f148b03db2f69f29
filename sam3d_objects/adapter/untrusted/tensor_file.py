"""A safetensors file that a stranger wrote: its header is checked before a number of it is read.

The format: 8 bytes with the header's length (little endian), the header as JSON (name -> dtype, shape, offsets), the
numbers. It holds nothing that could be run; what is left to refuse is what makes a reader use much memory or take
something for what it is not.
"""

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from sam3d_objects.adapter.untrusted.entries import read_bytes
from sam3d_objects.adapter.untrusted.json_text import parse_json
from sam3d_objects.adapter.untrusted.limits import (
    MOST_AXES,
    MOST_HEADER_BYTES,
    MOST_ON_AN_AXIS,
    MOST_TENSOR_BYTES,
    MOST_TENSORS,
)

_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8}
_LENGTH = 8
_METADATA = "__metadata__"
_FIELDS = {"dtype", "shape", "data_offsets"}
# How a file begins that was meant to be unpacked or run, or that a download leaves in place of weights.
_FOREIGN = {
    b"PK\x03\x04": "a zip archive (as torch's pickles are)",
    b"\x1f\x8b": "a gzip archive",
    b"\x28\xb5\x2f\xfd": "a zstd archive",
    b"\xfd7zXZ": "an xz archive",
    b"BZh": "a bzip2 archive",
    b"\x80": "a Python pickle, which could run code",
    b"version https://git-lfs": "a Git LFS pointer; fetch the file with `git lfs pull`",
    b"<": "a web page",
}


@dataclass(frozen=True)
class TensorEntry:
    """What a header says of one tensor: its dtype as safetensors calls it (`F32`), and its shape."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Its size in the file."""
        return self.elements * _BYTES[self.dtype]


def read_tensor_file(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file whose header is in order; tensors are on the CPU.

    Raises:
        ValueError: as `tensor_entries`, or the file is damaged.
    """
    entries = tensor_entries(path)
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is half written or no safetensors file: {error}") from error
    assert tensors.keys() == entries.keys()
    return tensors


def tensor_entries(path: Path) -> dict[str, TensorEntry]:
    """Return what a safetensors file holds, by name, from its header alone.

    Raises:
        ValueError: it is no plain file, of another format, cut off, too large, or its header declares what can't be:
            too many tensors, dtypes that no adapter has, shapes that do not fit their bytes, bytes that overlap, are
            used by no tensor or are not there. The message names the file and the tensor.
        OSError: it can't be read.
    """
    size = os.lstat(path).st_size
    begins = read_start(path, _LENGTH)
    for mark, what in _FOREIGN.items():
        # The first byte of a real length can be any, so that short marks are believed only where it is no length.
        if read_start(path, len(mark)) == mark and _length(begins) > max(0, size - _LENGTH):
            raise ValueError(f"{path} is no safetensors file but {what}: refused")
    length = _length(begins)
    if len(begins) < _LENGTH or length > size - _LENGTH:
        raise ValueError(
            f"{path} is half written or no safetensors file: it has {size:,} bytes, and its header alone should have "
            f"{length:,}"
        )
    if length > MOST_HEADER_BYTES:
        raise ValueError(f"{path}: its header has {length:,} bytes, an adapter's has at most {MOST_HEADER_BYTES:,}")
    header = parse_json(read_start(path, _LENGTH + length)[_LENGTH:], f"the header of {path}")
    if not isinstance(header, dict):
        raise ValueError(f"{path} is no safetensors file: its header is {type(header).__name__}, not an object")
    header.pop(_METADATA, None)
    if len(header) > MOST_TENSORS:
        raise ValueError(f"{path} declares {len(header):,} tensors, an adapter has at most {MOST_TENSORS:,}")
    entries = {name: _entry(path, name, fields) for name, fields in header.items()}
    _check_layout(path, header, entries, size - _LENGTH - length)
    return entries


def read_start(path: Path, count: int) -> bytes:
    """Read the first bytes of a plain file, of which there may be fewer.

    Raises:
        ValueError: it is no plain file, or larger than a tensor file may be.
    """
    return read_bytes(path, MOST_TENSOR_BYTES, count)


def _length(begins: bytes) -> int:
    return int.from_bytes(begins, "little")


def _entry(path: Path, name: str, fields: Any) -> TensorEntry:
    if not isinstance(fields, dict) or set(fields) != _FIELDS:
        raise ValueError(f"{path}: tensor {name!r} needs {', '.join(sorted(_FIELDS))}, got {_short(fields)}")
    dtype, shape = fields["dtype"], fields["shape"]
    if not isinstance(dtype, str) or dtype not in _BYTES:
        raise ValueError(f"{path}: tensor {name!r} holds {_short(dtype)}; adapters hold {', '.join(_BYTES)}")
    if not isinstance(shape, list) or len(shape) > MOST_AXES:
        raise ValueError(f"{path}: tensor {name!r} has the shape {_short(shape)}, not a list of up to {MOST_AXES}")
    for axis in shape:
        if isinstance(axis, bool) or not isinstance(axis, int) or not 0 <= axis < MOST_ON_AN_AXIS:
            raise ValueError(f"{path}: tensor {name!r} has the shape {_short(shape)}, which no tensor here has")
    return TensorEntry(dtype, tuple(shape))


def _check_layout(path: Path, header: dict[str, Any], entries: dict[str, TensorEntry], data: int) -> None:
    """The tensors fill the rest of the file, one after the other."""
    spans = []
    for name, entry in entries.items():
        offsets = header[name]["data_offsets"]
        if not (isinstance(offsets, list) and len(offsets) == 2 and all(type(x) is int for x in offsets)):
            raise ValueError(f"{path}: tensor {name!r} lies at {_short(offsets)}, not between two offsets")
        if offsets[1] - offsets[0] != entry.nbytes:
            raise ValueError(
                f"{path}: tensor {name!r} declares {entry.nbytes:,} bytes by its shape {list(entry.shape)} and "
                f"{offsets[1] - offsets[0]:,} by its place: refused"
            )
        spans.append((offsets[0], offsets[1], name))
    end = 0
    for first, last, name in sorted(spans):
        if first != end:
            raise ValueError(f"{path}: tensor {name!r} begins at byte {first:,}, and the one before ends at {end:,}")
        end = last
    if end != data:
        raise ValueError(f"{path} is half written or padded: its tensors take {end:,} bytes, it holds {data:,}")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."
