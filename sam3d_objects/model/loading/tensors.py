"""Weight files: read them as tensors and nothing else."""

import re
import struct
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

# What safetensors, zipfile and torch's restricted unpickler raise over damaged bytes; test_tensors.py walks through
# truncations and flipped bytes.
DAMAGE = (
    SafetensorError,
    zipfile.BadZipFile,
    struct.error,
    OSError,
    EOFError,
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    AssertionError,
)
# So many of a file's first bytes are shown.
BEGINS = 16
# How files begin that a download leaves in place of weights.
FOREIGN = {
    b"version https://git-lfs": "is a Git LFS pointer; fetch it with `git lfs pull`",
    b"<": "is a web page; log in, accept the licence and download it again",
}


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a flat state dict from `.safetensors`, or from a torch file with `weights_only=True` and nothing else.

    The tensors are views of the file (mmap): memory is used when they are read, and given back when they are dropped.

    Raises:
        ValueError: the file is missing, empty, damaged, of a foreign format, or holds anything but tensors.
    """
    if not path.is_file():
        raise ValueError(f"{path}: there is no such weight file; download the release again")
    if path.stat().st_size == 0:
        raise ValueError(f"{path}: the file is empty (0 bytes), as in downloads before June 2026; download it again")
    with path.open("rb") as stream:
        begins = stream.read(64).lstrip()
    for mark, what in FOREIGN.items():
        if begins.startswith(mark):
            raise ValueError(f"{path}: expected weights, but the file {what}")
    content = _content(path, begins)
    state = content.get("state_dict", content) if isinstance(content, Mapping) else content
    if not isinstance(state, Mapping):
        raise ValueError(
            f"{path}: expected a mapping of names to tensors, found {type(state).__name__}; download it again"
        )
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ValueError(
                f"{path}: {name!r}: expected a name and a tensor, found {type(name).__name__} and "
                f"{type(value).__name__}; download it again"
            )
    return dict(state)


def _content(path: Path, begins: bytes) -> Any:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():
            # Said of a foreign pickle just before it is refused, which says enough.
            warnings.filterwarnings("ignore", "Detected pickle protocol", UserWarning)
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except UnpicklingError as error:
        # Torch's own text proposes to load the file with its code; that is not passed on.
        code = re.search(r"GLOBAL ([\w.]+)", str(error))
        if code:
            held = f"it holds more than tensors ({code.group(1)})"
        else:
            held = f"it begins with {begins[:BEGINS]!r}, and is damaged or holds more than tensors"
        raise ValueError(f"{path}: refused, for {held}; download it again from a source that you trust") from error
    except DAMAGE as error:
        # Torch's texts go on for pages; the first sentence says it.
        told = f"{type(error).__name__}: {re.split(r'[.]? *$|[.] ', str(error), maxsplit=1, flags=re.MULTILINE)[0]}"
        raise ValueError(
            f"{path}: damaged or no weight file (it begins with {begins[:BEGINS]!r}; {told}); download it again"
        ) from error


def kind_of(value: Tensor) -> str:
    """Shape and dtype of a tensor, for messages."""
    return f"{tuple(value.shape)} {value.dtype}"


def select_prefix(state: Mapping[str, Tensor], prefix: str, where: str) -> dict[str, Tensor]:
    """Keep the keys under `prefix`, without it. Other `_base_models.*` keys are other models' and are left out.

    Raises:
        ValueError: a key that is not under `_base_models.`.
    """
    foreign = sorted(key for key in state if not key.startswith("_base_models."))
    if foreign:
        told = ", ".join(f"{key} (expected nothing, found {kind_of(state[key])})" for key in foreign[:5])
        raise ValueError(f"{where}: unknown tensors outside '_base_models.': {told}; download it again")
    return {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
