"""Steps of the pipeline that are done once: a step is redone when its options or its inputs change.

Beside the results lies `.steps/NAME.json` with the fingerprint of what the step was asked for. A finished
step with the same fingerprint is left alone; one that was cut off is called again, and goes on where it was;
one that was asked for something else first has its old results set aside under another name, so that nothing
is lost.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sam3d_objects import __version__
from sam3d_objects.files import read_json, write_json


def fingerprint(*parts: Any) -> str:
    """Return a SHA-256 over JSON-like values and this library's version (paths count as their text)."""
    text = json.dumps([__version__, *parts], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def folder_listing(folder: Path) -> list[tuple[str, int, int]]:
    """Return (relative path, bytes, modification time in ns) of every file in a folder, sorted.

    Raises:
        ValueError: there is no such folder.
    """
    if not folder.is_dir():
        raise ValueError(f"expected a folder of scans, but {folder} is not a folder")
    found = []
    for parent, _, names in os.walk(folder, followlinks=True):
        for name in names:
            path = Path(parent, name)
            status = path.stat()
            found.append((str(path.relative_to(folder)), status.st_size, status.st_mtime_ns))
    return sorted(found)


class Steps:
    """Runs named steps of one output folder, each at most once for the same request.

    Args:
        out: the pipeline's folder; `.steps` is kept in it.
        say: called with lines for people.
    """

    def __init__(self, out: Path, say: Callable[[str], None] = print) -> None:
        self.records = out / ".steps"
        self.say = say

    def run(
        self,
        name: str,
        request: str,
        folder: Path,
        result: str,
        action: Callable[[bool], None],
        *,
        keeps_itself: bool = False,
    ) -> None:
        """Run one step unless it is done.

        Args:
            name: of the step.
            request: fingerprint of all that the step depends on.
            folder: that the step fills.
            result: a file in `folder` that is there when the step is done.
            action: does the step; called with whether an unfinished run of the same request is there to go on
                from.
            keeps_itself: the action itself brings an old folder up to date; nothing is set aside.
        """
        path = self.records / f"{name}.json"
        record = read_json(path) if path.is_file() else {}
        same = record.get("request") == request and record.get("folder") == str(folder.resolve())
        if same and record["seconds"] is not None and (folder / result).exists():
            self.say(f"== {name}: done already, in {folder} (it took {record['seconds']:.0f} s)")
            return
        ours = record.get("folder") == str(folder.resolve())
        if ours and not same and not keeps_itself and folder.exists():
            self.say(f"== {name}: asked for something else before; that is kept in {_set_aside(folder)}")
        unfinished = same and folder.exists()
        self.say(f"== {name}: {'goes on' if unfinished else 'starts'}, in {folder}")
        write_json(path, {"request": request, "folder": str(folder.resolve()), "seconds": None})
        began = time.monotonic()
        action(unfinished)
        seconds = round(time.monotonic() - began, 1)
        if not (folder / result).exists():
            raise FileNotFoundError(f"the step {name} ended without making {folder / result}")
        write_json(path, {"request": request, "folder": str(folder.resolve()), "seconds": seconds})
        self.say(f"== {name}: done in {seconds:.0f} s")


def _set_aside(folder: Path) -> Path:
    number = 1
    while (target := folder.with_name(f"{folder.name}.old{number}")).exists():
        number += 1
    folder.rename(target)
    return target
