"""The files of a folder before one is opened: plain files only, within it, and not too large."""

import os
import stat
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from sam3d_objects.adapter.untrusted.limits import MOST_ENTRIES

_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a pipe (FIFO)",
    stat.S_IFSOCK: "a socket",
    stat.S_IFBLK: "a block device",
    stat.S_IFCHR: "a character device",
    stat.S_IFDIR: "a folder",
}


def check_entries(folder: Path, most_bytes: Mapping[str, int]) -> None:
    """Look at a folder's entries without following or opening any.

    Args:
        folder: of an adapter. It may itself be reached by a link, which is its owner's business.
        most_bytes: the files that will be read -> how large each may be. They need not be there.

    Raises:
        ValueError: an entry is a link, pipe, socket or device; one that will be read is a folder or too large; or there
            are more entries than any adapter has.
    """
    entries = 0
    with os.scandir(folder) as found:
        for entry in found:
            entries += 1
            if entries > MOST_ENTRIES:
                raise ValueError(f"{folder} holds more than {MOST_ENTRIES} files: that is no adapter's folder")
            state = entry.stat(follow_symlinks=False)
            plain_folder = stat.S_ISDIR(state.st_mode) and entry.name not in most_bytes
            if not (stat.S_ISREG(state.st_mode) or plain_folder):
                raise ValueError(_strange(Path(entry.path), state.st_mode))
            if state.st_size > most_bytes.get(entry.name, state.st_size):
                raise ValueError(_too_large(Path(entry.path), state.st_size, most_bytes[entry.name]))


def read_bytes(path: Path, most_bytes: int, count: int | None = None) -> bytes:
    """Read a plain file, never through a link; a pipe is not waited for.

    Args:
        path: the file.
        most_bytes: how large it may be.
        count: how many of its first bytes to read; default: all.

    Raises:
        ValueError: it is something else, or larger.
        OSError: it is not there or can't be read.
    """
    if path.is_symlink():
        raise ValueError(_strange(path, stat.S_IFLNK))
    # Checked by name above for the message; the flags hold also where the file is swapped in between.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    with open(descriptor, "rb") as stream:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode):
            raise ValueError(_strange(path, state.st_mode))
        if state.st_size > most_bytes:
            raise ValueError(_too_large(path, state.st_size, most_bytes))
        return stream.read(most_bytes if count is None else count)


def check_inside(name: str) -> str:
    """Return a file's name as somebody else gave it (`structure/sam3d.json`), if it leads nowhere else.

    Raises:
        ValueError: it is absolute, climbs with `..`, has another system's separators, a drive or control characters.
    """
    path = PurePosixPath(name)
    wrong = (
        not name
        or path.is_absolute()
        or any(part in ("..", ".") for part in name.split("/"))
        or "" in name.split("/")
        or any(mark in name for mark in "\\:")
        or any(ord(letter) < 32 or ord(letter) == 127 for letter in name)
    )
    if wrong:
        raise ValueError(f"the file name {name!r} leads out of its folder: refused")
    return name


def _strange(path: Path, mode: int) -> str:
    kind = _KINDS.get(stat.S_IFMT(mode), "no plain file")
    remedy = "copy the file itself there" if stat.S_ISLNK(mode) else "remove it"
    return f"{path} is {kind}, and an adapter's folder holds plain files: not opened; {remedy}"


def _too_large(path: Path, size: int, most: int) -> str:
    return f"{path} has {size:,} bytes, and such a file has at most {most:,}: not read"
