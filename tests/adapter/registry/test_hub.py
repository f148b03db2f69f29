"""Adapters on the hub, against a client that keeps its repositories in a folder, and one that means harm."""

import os
import shutil
from collections import namedtuple
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sam3d_objects.adapter import add_to_set, read_adapter_set
from sam3d_objects.adapter.registry import (
    HubPlace,
    compare_adapters,
    find_on_hub,
    hub_client,
    pull_from_hub,
    push_to_hub,
    registry_table,
)
from tests.adapter.registry.test_registry import write

Item = namedtuple("Item", "path size")
Folder = namedtuple("Folder", "path")


class FolderHub:
    """What is used of `huggingface_hub.HfApi`, over a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.private: dict[str, bool] = {}
        self.fetched: list[str] = []

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> object:
        assert exist_ok
        (self.root / repo_id).mkdir(parents=True, exist_ok=True)
        return self.private.setdefault(repo_id, private)

    def upload_folder(self, *, repo_id: str, folder_path: str, path_in_repo: str, commit_message: str) -> object:
        assert commit_message
        return shutil.copytree(folder_path, self.root / repo_id / path_in_repo, dirs_exist_ok=True)

    def list_repo_tree(self, repo_id: str, *, recursive: bool, revision: str | None) -> Iterable[Any]:
        assert recursive
        for path in sorted((self.root / repo_id).rglob("*")):
            name = path.relative_to(self.root / repo_id).as_posix()
            yield Folder(name) if path.is_dir() else Item(name, path.stat().st_size)

    def hf_hub_download(self, repo_id: str, filename: str, *, revision: str | None, local_dir: str) -> str:
        self.fetched.append(filename)
        target = Path(local_dir) / filename
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.root / repo_id / filename, target)
        return str(target)


@pytest.fixture
def hub(tmp_path: Path) -> FolderHub:
    """A hub with `clinic/adapters`, which holds `liver` and, in `both`, a set."""
    made = FolderHub(tmp_path / "hub")
    write(tmp_path / "run")
    add_to_set(tmp_path / "run", tmp_path / "set")
    push_to_hub(tmp_path / "run", HubPlace("clinic/adapters", "liver"), made)
    push_to_hub(tmp_path / "set", HubPlace("clinic/adapters", "both"), made)
    return made


def test_what_is_pushed_is_pulled(hub: FolderHub, tmp_path: Path) -> None:
    assert hub.private == {"clinic/adapters": True}
    repository = hub.root / "clinic/adapters"
    (repository / "liver" / "evil.py").write_text("raise SystemExit")
    (repository / ".gitattributes").write_text("")
    pull_from_hub(HubPlace.parse("hf://clinic/adapters/liver"), tmp_path / "mine", hub)
    assert compare_adapters(tmp_path / "run", tmp_path / "mine").same
    assert len(list((tmp_path / "mine").iterdir())) == 4 and not any("evil" in name for name in hub.fetched)
    pull_from_hub(HubPlace.parse("hf://clinic/adapters/both@main"), tmp_path / "set2", hub)
    assert read_adapter_set(tmp_path / "set2").stages == ("structure",)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")], "nothing temporary stays"


def test_a_repository_is_listed_by_its_records_alone(hub: FolderHub) -> None:
    (hub.root / "clinic/adapters/broken").mkdir()
    (hub.root / "clinic/adapters/broken/sam3d.json").write_text("[" * 99)
    hub.fetched.clear()
    table = registry_table(find_on_hub(HubPlace.parse("hf://clinic/adapters"), hub)).splitlines()
    assert [line.split()[0] for line in table[1:]] == ["both/structure", "liver", "!"]
    assert "nests deeper" in table[-1]
    assert all(name.endswith("sam3d.json") for name in hub.fetched)


def test_no_adapter_there_names_those_that_are(hub: FolderHub, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no adapter at hf://clinic/adapters; there are both/structure, liver"):
        pull_from_hub(HubPlace.parse("hf://clinic/adapters"), tmp_path / "mine", hub)
    with pytest.raises(ValueError, match=r"newest state; leave @main out"):
        push_to_hub(tmp_path / "run", HubPlace.parse("hf://clinic/adapters@main"), hub)


class HostileHub(FolderHub):
    """Declares and delivers something else."""

    declared: dict[str, int] | None = None
    deliver: str = ""

    def list_repo_tree(self, repo_id: str, *, recursive: bool, revision: str | None) -> Iterable[Any]:
        for item in super().list_repo_tree(repo_id, recursive=recursive, revision=revision):
            size = getattr(item, "size", None)
            yield item if size is None else Item(item.path, (self.declared or {}).get(Path(item.path).name, size))
        if self.deliver == "escaping names":
            yield Item("liver/../../../escape/sam3d.json", 10)

    def hf_hub_download(self, repo_id: str, filename: str, *, revision: str | None, local_dir: str) -> str:
        path = Path(super().hf_hub_download(repo_id, filename, revision=revision, local_dir=local_dir))
        if self.deliver == "more":
            with path.open("ab") as stream:
                stream.truncate(1 << 30)
        elif self.deliver == "a link":
            path.unlink()
            path.symlink_to("/etc/hostname")
        elif self.deliver == "elsewhere":
            return "/etc/hostname"
        elif self.deliver == "a pipe":
            path.unlink()
            os.mkfifo(path)
        return str(path)


@pytest.mark.parametrize(
    ("declared", "deliver", "message"),
    [
        (
            {"adapter_model.safetensors": 1 << 50},
            "",
            r"1,125,899,906,842,624 bytes, such a file has at most.*not fetched",
        ),
        ({"sam3d.json": 1 << 30}, "", "not fetched"),
        ({"adapter_model.safetensors": (8 << 30) - 1}, "", "free"),
        ({}, "more", r"has 1,073,741,824 bytes, the hub declared .*: not kept"),
        ({}, "a link", "no plain file"),
        ({}, "elsewhere", "no plain file in the folder it was asked into"),
        ({}, "a pipe", "no plain file"),
        ({}, "escaping names", "leads out of its folder"),
    ],
)
def test_a_hub_that_means_harm(
    hub: FolderHub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    declared: dict[str, int],
    deliver: str,
    message: str,
) -> None:
    hostile = HostileHub(hub.root)
    hostile.declared, hostile.deliver = declared, deliver
    usage = SimpleNamespace(free=1 << 33)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(ValueError, match=message):
        pull_from_hub(HubPlace.parse("hf://clinic/adapters/liver"), tmp_path / "mine", hostile)
    assert {path.name for path in tmp_path.iterdir()} == {"hub", "run", "set"}, "nothing is left"


def test_what_came_is_checked_as_an_adapter(hub: FolderHub, tmp_path: Path) -> None:
    (hub.root / "clinic/adapters/liver/adapter_model.safetensors").write_bytes(b"PK\x03\x04" + b"\xff" * 99)
    with pytest.raises(ValueError, match="zip archive"):
        pull_from_hub(HubPlace.parse("hf://clinic/adapters/liver"), tmp_path / "mine", hub)
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize(
    "text", ["hf://", "hf://clinic", "clinic/adapters", "hf://clinic//x", "hf://a/b/../c", "hf://a/b\\c"]
)
def test_places_that_are_none(text: str) -> None:
    with pytest.raises(ValueError):
        HubPlace.parse(text)


def test_places() -> None:
    place = HubPlace.parse("hf://clinic/adapters/liver/site1@v2")
    assert place == HubPlace("clinic/adapters", "liver/site1", "v2")
    assert str(place) == "hf://clinic/adapters/liver/site1@v2"
    assert HubPlace("a/b").below("c").inner == "c" and HubPlace("a/b", "c").below("") == HubPlace("a/b", "c")
    with pytest.raises(ValueError, match="leads out"):
        HubPlace("a/b").below("../c")


def test_the_real_client_has_what_is_used() -> None:
    hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    import inspect

    wanted = {
        "create_repo": {"private", "exist_ok"},
        "list_repo_tree": {"recursive", "revision"},
        "hf_hub_download": {"filename", "revision", "local_dir"},
        "upload_folder": {"repo_id", "folder_path", "path_in_repo", "commit_message"},
    }
    assert isinstance(hub_client(), hub.HfApi)
    for name, arguments in wanted.items():
        assert arguments <= set(inspect.signature(getattr(hub.HfApi, name)).parameters)
