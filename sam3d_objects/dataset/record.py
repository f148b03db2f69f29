"""A prepared case's folder on disk: whole or absent, and kept as long as nothing it came from changes."""

import os
import shutil
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sam3d_objects.dataset.manifest import CaseEntry, Skipped, entry_from_json
from sam3d_objects.dataset.storage import file_names
from sam3d_objects.dataset.structures import Term
from sam3d_objects.files import read_json, sha256_file, write_json

_NAME = "case.json"


@dataclass(frozen=True)
class CaseRecord:
    """What became of a case: the contents of its ``case.json``.

    Attributes:
        key: hash of the options that decided it.
        sources: source file, relative -> its size, mtime_ns and sha256 when it was read.
        entry: what is stored; without `organs`, when everything was left out, there is nothing but this
        record. skipped: structures that were left out.
        found: label values or organ names that this case has voxels of.
    """

    key: str
    sources: Mapping[str, Mapping[str, Any]]
    entry: CaseEntry
    skipped: tuple[Skipped, ...]
    found: tuple[Term, ...]


def file_state(path: Path) -> dict[str, Any]:
    """Size, mtime_ns and sha256 of a file.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        status = path.stat()
        return {"size": status.st_size, "mtime_ns": status.st_mtime_ns, "sha256": sha256_file(path)}
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from error


def reusable(folder: Path, key: str, files: Mapping[str, Path]) -> CaseRecord | None:
    """The record in a case's folder if it was made with these options from these very files, else None."""
    path = folder / _NAME
    if not path.is_file():
        return None
    record = _read(path)
    if record is None or record.key != key or record.sources.keys() != files.keys():
        return None
    if not all((folder / name).is_file() for name in file_names(len(record.entry.organs))):
        return None
    if not all(_unchanged(files[name], state) for name, state in record.sources.items()):
        return None
    return record


def store(folder: Path, record: CaseRecord, fill: Callable[[Path], CaseRecord]) -> CaseRecord:
    """Write a case's folder under a temporary name, then rename it; an older one is replaced.

    Args:
        folder: ``cases/<id>``.
        record: what to write beside the arrays.
        fill: writes the arrays into the folder that it is given and returns the final record.

    Raises:
        OSError: it cannot be written; the message names the folder.
    """
    temporary = folder.with_name(f".{uuid.uuid4().hex[:12]}.{folder.name}")
    old = temporary.with_suffix(".old")
    try:
        temporary.mkdir(parents=True)
        record = fill(temporary) if record.entry.organs else record
        write_json(temporary / _NAME, asdict(record))
        # A folder cannot replace one that is not empty. Killed between the two, the case is made again.
        if folder.exists():
            os.replace(folder, old)
        os.replace(temporary, folder)
    except OSError as error:
        raise OSError(error.errno, f"cannot write {folder}: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
    return record


def remove_leftovers(cases: Path) -> None:
    """Remove what a killed run left half written in ``cases/``."""
    if cases.is_dir():
        for path in cases.glob(".????????????.*"):
            shutil.rmtree(path)


def _read(path: Path) -> CaseRecord | None:
    """The record in a file; None for one that is damaged or of an older version, whose case is made again."""
    try:
        content = read_json(path)
        return CaseRecord(
            key=content["key"],
            sources=content["sources"],
            entry=entry_from_json(content["entry"]),
            skipped=tuple(Skipped(**item) for item in content["skipped"]),
            found=tuple(content["found"]),
        )
    except (ValueError, KeyError, TypeError):
        return None


def _unchanged(path: Path, state: Mapping[str, Any]) -> bool:
    """Same size and time, or, since copies get a new time, the same bytes."""
    if not path.is_file():
        return False
    status = path.stat()
    if status.st_size != state["size"]:
        return False
    return bool(status.st_mtime_ns == state["mtime_ns"] or sha256_file(path) == state["sha256"])
