"""Folders that are whole or absent, whenever the process dies."""

import os
from pathlib import Path

import pytest

from sam3d_objects.adapter import atomic_folder, recover_folder

NAMES = ("a.txt", "b.txt")


def write(folder: Path, text: str) -> None:
    with atomic_folder(folder, NAMES) as temporary:
        for name in NAMES:
            (temporary / name).write_text(text)


def test_new_and_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "folder"
    write(folder, "one")
    assert (folder / "a.txt").read_text() == "one"
    with atomic_folder(folder, NAMES) as temporary:
        (temporary / "a.txt").write_text("two")
        assert (folder / "a.txt").read_text() == "one", "readers see the older one until the end"
    assert (folder / "a.txt").read_text() == "two"
    assert not (folder / "b.txt").exists(), "replaced, not mixed"
    assert [path.name for path in folder.parent.iterdir()] == ["folder"]


def test_an_error_leaves_the_older_one(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    write(folder, "one")
    with pytest.raises(RuntimeError, match="stop"), atomic_folder(folder, NAMES) as temporary:
        (temporary / "a.txt").write_text("half")
        raise RuntimeError("stop")
    assert (folder / "a.txt").read_text() == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize("fail_at", [1, 2])
def test_a_failing_rename_leaves_the_older_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fail_at: int) -> None:
    folder = tmp_path / "folder"
    write(folder, "one")
    calls = []
    real = os.replace

    def replace(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == fail_at:
            raise OSError(5, "Input/output error")
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        with pytest.raises(OSError, match=r"cannot write .*folder"):
            write(folder, "two")
    assert (folder / "a.txt").read_text() == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_kill_between_the_two_moves_is_recovered(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    write(folder, "one")
    os.replace(folder, tmp_path / ".folder.old")
    (tmp_path / ".folder.new").mkdir()
    recover_folder(folder)
    assert (folder / "a.txt").read_text() == "one"
    write(folder, "two")
    assert (folder / "a.txt").read_text() == "two"
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_kill_after_the_second_move_is_cleaned_up(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    write(folder, "new")
    write(tmp_path / ".folder.old", "old")
    recover_folder(folder)
    assert (folder / "a.txt").read_text() == "new"
    write(folder, "newer")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
