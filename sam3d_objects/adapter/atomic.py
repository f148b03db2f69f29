"""A folder that is whole or absent, and replaces an older one without a moment in which both are lost."""

import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_folder(path: str | os.PathLike[str], names: Collection[str]) -> Iterator[Path]:
    """Yield a temporary folder beside `path` that becomes `path` when the block succeeds.

    An older folder is moved aside, replaced, and only then deleted; when the block raises, it stays as it
    was. A process that is killed between the two moves leaves the older one aside, from where
    `recover_folder`, which readers and the next write call, brings it back. One process at a time may write
    to a path.

    Args:
        path: the folder to write; its parents are made.
        names: the entries that such a folder may have. One that holds anything else is somebody else's and
            stays.

    Raises:
        ValueError: `path` is a file, or a folder with other entries, which are named.
        OSError: the folder cannot be written (a full disk); the message names `path`.
    """
    target = Path(path)
    recover_folder(target)
    _check_replaceable(target, names)
    temporary = target.with_name(f".{target.name}.new")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        yield temporary
        _flush(temporary)
        _swap(temporary, target)
    except OSError as error:
        recover_folder(target)
        raise OSError(error.errno, f"cannot write {target}: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def recover_folder(path: str | os.PathLike[str]) -> None:
    """Bring back the older folder if a write was killed between moving it aside and replacing it."""
    target = Path(path)
    aside = _aside(target)
    if aside.is_dir() and not target.exists():
        os.replace(aside, target)


def _aside(target: Path) -> Path:
    return target.with_name(f".{target.name}.old")


def _swap(temporary: Path, target: Path) -> None:
    aside = _aside(target)
    shutil.rmtree(aside, ignore_errors=True)
    if target.exists():
        os.replace(target, aside)
    os.replace(temporary, target)
    shutil.rmtree(aside, ignore_errors=True)


def _check_replaceable(target: Path, names: Collection[str]) -> None:
    if target.exists() and not target.is_dir():
        raise ValueError(f"{target} is a file: name a folder")
    entries = target.iterdir() if target.exists() else ()
    others = sorted(entry.name for entry in entries if entry.name not in names)
    if others:
        raise ValueError(f"{target} holds other files ({', '.join(others[:5])}): name a new or empty folder")


def _flush(folder: Path) -> None:
    """Have the files on the disk before their folder takes its name: a power cut leaves no empty ones."""
    for file in folder.rglob("*"):
        if file.is_file():
            with open(file, "rb") as stream:
                os.fsync(stream.fileno())
