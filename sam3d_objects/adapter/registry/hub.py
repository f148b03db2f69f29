"""A registry that is a repository on the Hugging Face Hub. Only the files of adapters go either way.

Its part that talks to the network is `huggingface_hub.HfApi` (extra `[download]`).
"""

import importlib
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol, cast

from sam3d_objects.adapter.record import MOST_BYTES, NAMES, RECORD, TENSORS, read_record
from sam3d_objects.adapter.registry.folder import Entry, checked_folders, copy_adapters
from sam3d_objects.adapter.untrusted import check_inside
from sam3d_objects.model.stages import STAGES

SCHEME = "hf://"
MOST_LISTED = 500
"""Adapters of one repository that are listed: each costs a request."""


class Hub(Protocol):
    """What is used of `huggingface_hub.HfApi`."""

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> object:
        """Make a repository where there is none."""

    def list_repo_tree(self, repo_id: str, *, recursive: bool, revision: str | None) -> Iterable[Any]:
        """Its files and folders, with `path`, and `size` where it is a file."""

    def hf_hub_download(self, repo_id: str, filename: str, *, revision: str | None, local_dir: str) -> str:
        """Fetch one file below a folder and return its path."""

    def upload_folder(self, *, repo_id: str, folder_path: str, path_in_repo: str, commit_message: str) -> object:
        """Send a folder's files in one commit."""


@dataclass(frozen=True)
class HubPlace:
    """A place on the hub: `hf://user/repository`, a folder in it, and `@revision` where one is named.

    Attributes:
        repository: `user/repository`.
        inner: the folder within, '' for the whole.
        revision: a branch, tag or commit; None for the newest.
    """

    repository: str
    inner: str = ""
    revision: str | None = None

    @classmethod
    def parse(cls, text: str) -> "HubPlace":
        """Read `hf://user/repository[/folder][@revision]`.

        Raises:
            ValueError: it is something else, or leads out of the repository.
        """
        place, _, revision = text.removeprefix(SCHEME).partition("@")
        parts = place.strip("/").split("/")
        if not text.startswith(SCHEME) or len(parts) < 2 or not all(parts):
            raise ValueError(f"a place on the hub is {SCHEME}USER/REPOSITORY[/FOLDER][@REVISION]; got {text!r}")
        check_inside("/".join(parts))
        return cls("/".join(parts[:2]), "/".join(parts[2:]), revision or None)

    def below(self, name: str) -> "HubPlace":
        """Return a folder within this one; '' is this one."""
        inner = "/".join(part for part in (self.inner, check_inside(name) if name else "") if part)
        return HubPlace(self.repository, inner, self.revision)

    def __str__(self) -> str:
        inner = f"/{self.inner}" if self.inner else ""
        return f"{SCHEME}{self.repository}{inner}" + (f"@{self.revision}" if self.revision else "")


def hub_client() -> Hub:
    """Return a client for the hub, with the token that `hf auth login` or HF_TOKEN gave.

    Raises:
        ValueError: the extra `[download]` is not installed.
    """
    try:
        return cast(Hub, importlib.import_module("huggingface_hub").HfApi())
    except ImportError as error:
        raise ValueError('the hub needs huggingface_hub: pip install "sam3d-medical[download]"') from error


def push_to_hub(adapter: Path, place: HubPlace, hub: Hub, *, public: bool = False) -> None:
    """Send an adapter, or a set of them, to the hub; a repository that is made for it is private unless `public`.

    Raises:
        ValueError: it is no adapter or damaged, or a revision is named, which can't be written to.
        OSError: the hub can't be reached, or refuses.
    """
    if place.revision:
        raise ValueError(f"{place}: adapters are pushed to the newest state; leave @{place.revision} out")
    with tempfile.TemporaryDirectory() as work:
        # A copy: only the files that were checked are sent, whatever else lies in the folder.
        copy = copy_adapters(adapter, Path(work) / "adapter")
        hub.create_repo(place.repository, private=not public, exist_ok=True)
        hub.upload_folder(
            repo_id=place.repository,
            folder_path=str(copy),
            path_in_repo=place.inner or ".",
            commit_message=f"sam3d-medical: adapter {place.inner or place.repository}",
        )


def pull_from_hub(place: HubPlace, out: Path, hub: Hub) -> Path:
    """Fetch an adapter, or a set of them, from the hub, checked before it gets its name.

    Sizes are those that the hub declares, checked before anything is fetched and again on the files that came.

    Raises:
        ValueError: there is none at the place, a file is larger than an adapter's can be or than it was declared, the
            disk has no room, a file landed elsewhere, or what came is damaged. Nothing is left then.
        OSError: the hub can't be reached, or refuses.
    """
    sizes = _sizes(hub, place)
    wanted = _wanted(sizes, place)
    out.parent.mkdir(parents=True, exist_ok=True)
    _check_room({name: sizes[name] for name in wanted}, out.parent, place)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".pulled") as work:
        for name, inner in wanted.items():
            _fetch(hub, place, name, sizes[name], Path(work) / "files" / inner, Path(work) / "came")
        checked_folders(Path(work) / "files")
        return copy_adapters(Path(work) / "files", out)


def find_on_hub(place: HubPlace, hub: Hub) -> list[Entry]:
    """Return the adapters of a repository by name; of each only its record is fetched.

    Raises:
        ValueError: more than `MOST_LISTED` adapters, or the hub gives names that lead out of the repository.
        OSError: the hub can't be reached, or refuses.
    """
    sizes = _sizes(hub, place)
    records = [name for name in sizes if PurePosixPath(name).name == RECORD]
    if len(records) > MOST_LISTED:
        raise ValueError(f"{place} holds {len(records)} adapters; name a folder in it with at most {MOST_LISTED}")
    entries = []
    with tempfile.TemporaryDirectory() as work:
        for number, name in enumerate(sorted(records)):
            inner = PurePosixPath(name).parent.as_posix()
            shown = "" if inner == "." else inner
            try:
                target = Path(work) / "records" / str(number)
                _fetch(hub, place, name, sizes[name], target, Path(work) / "came")
                tensors = sizes.get(str(PurePosixPath(name).with_name(TENSORS)), 0)
                entries.append(Entry(shown, read_record(target), tensors))
            except ValueError as error:
                entries.append(Entry(shown, None, 0, str(error)))
    return entries


def _sizes(hub: Hub, place: HubPlace) -> dict[str, int]:
    """Return name below the place -> declared size, of the files that an adapter has."""
    sizes = {}
    for item in hub.list_repo_tree(place.repository, recursive=True, revision=place.revision):
        name, size = getattr(item, "path", None), getattr(item, "size", None)
        if not isinstance(name, str) or not isinstance(size, int):
            continue  # a folder
        if place.inner and not name.startswith(f"{place.inner}/"):
            continue
        inner = name.removeprefix(f"{place.inner}/") if place.inner else name
        if PurePosixPath(inner).name in NAMES:
            sizes[check_inside(inner)] = size
    return sizes


def _wanted(sizes: Mapping[str, int], place: HubPlace) -> dict[str, str]:
    """Return the files of the one adapter, or of the set, at the place: name -> where it goes."""
    folders = [""] if RECORD in sizes else [f"{stage}/" for stage in STAGES if f"{stage}/{RECORD}" in sizes]
    if not folders:
        inner = sorted({PurePosixPath(name).parent.as_posix() for name in sizes if name.endswith(RECORD)})
        hint = f"; there are {', '.join(inner[:8])}" if inner else ""
        raise ValueError(f"no adapter at {place}{hint}")
    wanted = {
        f"{folder}{name}": f"{folder}{name}" for folder in folders for name in NAMES if f"{folder}{name}" in sizes
    }
    for name in wanted:
        most = MOST_BYTES[PurePosixPath(name).name]
        if sizes[name] > most:
            raise ValueError(
                f"{place}: {name} has {sizes[name]:,} bytes, such a file has at most {most:,}: not fetched"
            )
    return wanted


def _check_room(sizes: Mapping[str, int], folder: Path, place: HubPlace) -> None:
    # Twice: what came, and the checked copy.
    needed, free = 2 * sum(sizes.values()), shutil.disk_usage(folder).free
    if needed > free:
        raise ValueError(f"{place} needs {needed:,} bytes while it is fetched, and {folder} has {free:,} free")


def _fetch(hub: Hub, place: HubPlace, name: str, size: int, target: Path, came: Path) -> None:
    """Fetch one file into `came` and move it to `target`, if it is what was declared."""
    most = MOST_BYTES[PurePosixPath(name).name]
    if size > most:
        raise ValueError(f"{place}: {name} has {size:,} bytes, such a file has at most {most:,}: not fetched")
    full = f"{place.inner}/{name}" if place.inner else name
    path = Path(hub.hf_hub_download(place.repository, full, revision=place.revision, local_dir=str(came)))
    if path.is_symlink() or not path.resolve().is_relative_to(came.resolve()) or not path.is_file():
        raise ValueError(f"{place}: {name} came as {path}, which is no plain file in the folder it was asked into")
    if path.stat().st_size != size:
        raise ValueError(f"{place}: {name} has {path.stat().st_size:,} bytes, the hub declared {size:,}: not kept")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(path, target)
