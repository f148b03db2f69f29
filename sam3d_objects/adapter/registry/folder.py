"""A registry that is a folder: the adapters below it, and the way of one into and out of it."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sam3d_objects.adapter.adapter_set import read_adapter_set
from sam3d_objects.adapter.atomic import atomic_folder
from sam3d_objects.adapter.record import MOST_BYTES, NAMES, RECORD, TENSORS, AdapterRecord, read_adapter
from sam3d_objects.adapter.untrusted import check_inside, tensor_entries
from sam3d_objects.model.stages import STAGES

MOST_DEPTH = 6
"""How deep adapters are looked for: runs/ORGAN/FOLD/best/STAGE is 5."""


@dataclass(frozen=True)
class Entry:
    """One adapter of a registry.

    Attributes:
        name: its place below the registry, with `/`; '' for one that is the registry's folder itself.
        record: what it remembers; None where it can't be read.
        tensor_bytes: size of its tensor file.
        problem: why it can't be read; '' where it can.
    """

    name: str
    record: AdapterRecord | None
    tensor_bytes: int
    problem: str = ""


def find_adapters(folder: str | os.PathLike[str]) -> list[Entry]:
    """Return the adapters in and below a folder by name, damaged ones with what is wrong; links are not followed.

    Raises:
        ValueError: there is no such folder.
    """
    root = Path(folder)
    if not root.is_dir():
        raise ValueError(f"no registry at {root}: no such folder; `adapter push` makes one")
    return [_entry(root, path) for path in _folders(root)]


def _folders(root: Path) -> Iterator[Path]:
    for path, folders, files in os.walk(root, followlinks=False):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if len(Path(path).relative_to(root).parts) >= MOST_DEPTH:
            folders.clear()
        if RECORD in files:
            yield Path(path)


def _entry(root: Path, path: Path) -> Entry:
    name = "" if path == root else path.relative_to(root).as_posix()
    try:
        record = read_adapter(path)
    except ValueError as error:
        return Entry(name, None, 0, str(error))
    return Entry(name, record, (path / TENSORS).stat().st_size)


def push_folder(adapter: Path, registry: Path, name: str) -> Path:
    """Copy an adapter, or a set of them, into a registry's folder under a name, replacing an older one there.

    Raises:
        ValueError: it is no adapter, or damaged; the name leads out of the registry, or to a folder with other files.
    """
    return copy_adapters(adapter, registry / check_inside(name))


def pull_folder(registry: Path, name: str, out: Path) -> Path:
    """Copy an adapter, or a set of them, out of a registry's folder, checked as one from a stranger.

    Raises:
        ValueError: there is none of that name, it is damaged, or `out` holds other files.
    """
    source = registry / check_inside(name) if name else registry
    if not source.is_dir():
        known = ", ".join(entry.name or "." for entry in find_adapters(registry)) or "nothing"
        raise ValueError(f"{registry} has no adapter {name!r}; it holds {known}")
    return copy_adapters(source, out)


def copy_adapters(source: Path, target: Path) -> Path:
    """Copy the files of an adapter or a set, and nothing else that lies there, whole or not at all."""
    folders = checked_folders(source)
    single = list(folders) == [""]
    with atomic_folder(target, NAMES if single else STAGES) as temporary:
        for inner, folder in folders.items():
            (temporary / inner).mkdir(exist_ok=True)
            for name in NAMES:
                if (folder / name).is_file():
                    shutil.copyfile(folder / name, temporary / inner / name)
    return target


def checked_folders(source: Path) -> dict[str, Path]:
    """Return stage -> folder of a set, or '' -> the folder of a single adapter, records and tensor headers checked.

    Raises:
        ValueError: as `read_adapter_set`, or a tensor file is not what an adapter's is.
    """
    adapters = read_adapter_set(source)
    for folder in adapters.folders.values():
        tensor_entries(folder / TENSORS)
    single = next(iter(adapters.folders.values())) == source
    return {"": source} if single else dict(adapters.folders)


assert set(MOST_BYTES) == set(NAMES)
