#!/usr/bin/env python
"""Download the released weights of SAM 3D Objects (13 GB) and verify each file's size and SHA-256.

The weights are gated: Meta gives them to those who accept the SAM License.
  1. Log in at https://huggingface.co/facebook/sam-3d-objects, ask for access, and wait until it is granted.
  2. Make a token at https://huggingface.co/settings/tokens (kind: read).
  3. pip install "huggingface_hub>=0.30"; then `hf auth login`, or set HF_TOKEN to the token.

    python scripts/download_checkpoints.py --out checkpoints
    sam3d-med doctor --base checkpoints

It goes on where it was stopped: files that are there and right are left alone, half a file is completed, and one
that is whole but wrong is deleted and fetched again.
"""

import argparse
import importlib
import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol, cast

from sam3d_objects.assets.release_files import ReleaseFile, ReleaseTable, release_table

INCOMING = ".incoming"
NO_ACCESS = (401, 403)
# What the hub's package raises beside OSError and ValueError, by its names: it has no base class of its own. Its part
# that fetches the bytes raises RuntimeError.
HUB_ERRORS = ("HTTPError", "EntryNotFoundError", "RevisionResolutionError", "XetDownloadError")


class Hub(Protocol):
    """What is used of the package huggingface_hub."""

    def list_repo_files(self, repo_id: str, *, revision: str) -> list[str]:
        """The names of a repository's files."""

    def hf_hub_download(self, repo_id: str, filename: str, *, revision: str, local_dir: str) -> str:
        """Fetch one file below a folder, completing what is there of it, and return its path."""


def main() -> int:
    """Download what is not there yet; 0 if all is there and right, else 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("checkpoints"), help="folder for the files [checkpoints]")
    out: Path = parser.parse_args().out
    try:
        download(out, release_table(), hub())
    except (ValueError, OSError) as error:
        # The hub's texts run over several lines.
        print(f"download_checkpoints.py: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    print(f"{out}: all files are there and right; use it with --base {out}")
    return 0


def hub() -> Hub:
    """Return the package huggingface_hub.

    Raises:
        ValueError: it is not installed.
    """
    try:
        importlib.import_module("huggingface_hub.errors")
        return cast(Hub, importlib.import_module("huggingface_hub"))
    except ImportError as error:
        raise ValueError('this needs huggingface_hub: pip install "huggingface_hub>=0.30"') from error


def download(out: Path, table: ReleaseTable, hub: Hub) -> None:
    """Fetch every file that something here or the release's own software reads.

    A file gets its name in `out` only when its size and hash are right.

    Raises:
        ValueError: no access to the repository, or files that are not what the table says; they are named.
    """
    wanted = [file for file in table.files.values() if file.stage != "spare"]
    missing = [file for file in wanted if not _is_there(out, file)]
    if not missing:
        return
    incoming = out / INCOMING
    try:
        places = {Path(name).name: name for name in hub.list_repo_files(table.repository, revision=table.revision)}
        problems = _fetch(out, missing, places, table, hub)
    except _errors_of(hub) as error:
        raise _explained(error, table) from error
    if problems:
        raise ValueError(
            f"{len(problems)} of {len(missing)} files are not those of revision {table.revision}; what came of them "
            "was deleted, run this again. " + "; ".join(problems)
        )
    shutil.rmtree(incoming)


def _is_there(out: Path, file: ReleaseFile) -> bool:
    problem = file.problem(out / file.name, with_hash=True)
    print(f"{file.name}: {problem or 'there already'}")
    return problem is None


def _errors_of(hub: Hub) -> tuple[type[Exception], ...]:
    errors = getattr(hub, "errors", None)
    named = (getattr(errors, name) for name in HUB_ERRORS if hasattr(errors, name))
    return (OSError, RuntimeError, *named)


def _fetch(out: Path, files: Iterable[ReleaseFile], places: dict[str, str], table: ReleaseTable, hub: Hub) -> list[str]:
    problems = []
    for file in files:
        if file.name not in places:
            problems.append(f"{file.name}: the repository has no such file")
            continue
        print(f"{file.name}: downloading {file.size / 1e6:,.1f} MB")
        place, incoming = places[file.name], out / INCOMING
        # Left by an earlier run; the hub would take it for whole.
        left = incoming / place
        if left.is_file() and file.problem(left, with_hash=True):
            left.unlink()
        came = Path(hub.hf_hub_download(table.repository, place, revision=table.revision, local_dir=str(incoming)))
        problem = file.problem(came, with_hash=True)
        if problem is None:
            os.replace(came, out / file.name)
        else:
            came.unlink(missing_ok=True)
            problems.append(f"{file.name}: {problem}")
    return problems


def _explained(error: Exception, table: ReleaseTable) -> Exception:
    """Say what to do about a refusal; an OSError stays what it is, and any other becomes a ValueError."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status not in NO_ACCESS and type(error).__name__ not in ("GatedRepoError", "LocalTokenNotFoundError"):
        if isinstance(error, OSError):
            return error
        return ValueError(
            f"{table.repository}: the hub failed with {type(error).__name__}: {error}; run this again to go on"
        )
    return ValueError(
        f"no access to {table.repository}: accept the licence at https://huggingface.co/{table.repository}, wait until "
        "access is granted, and log in with `hf auth login` or HF_TOKEN (a token from "
        f"https://huggingface.co/settings/tokens that may read gated repositories). The hub said: {error}"
    )


if __name__ == "__main__":
    sys.exit(main())
