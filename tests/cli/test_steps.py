"""A step of the pipeline is done once for each request."""

import os
from pathlib import Path

import pytest

from sam3d_objects.cli.steps import Steps, fingerprint, folder_listing


class Counted:
    """A step that writes its result and remembers how it was called."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls: list[bool] = []
        self.fail = False

    def __call__(self, unfinished: bool) -> None:
        self.calls.append(unfinished)
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "partial").touch()
        if self.fail:
            raise KeyboardInterrupt
        (self.folder / "result").write_text(f"call {len(self.calls)}")


@pytest.fixture
def said() -> list[str]:
    """What the steps said to people."""
    return []


def test_a_finished_step_is_not_done_again(tmp_path: Path, said: list[str]) -> None:
    action = Counted(tmp_path / "training")
    for _ in range(2):
        Steps(tmp_path, said.append).run("train", "request", action.folder, "result", action)
    assert action.calls == [False]
    assert "done already" in said[-1]


def test_a_step_that_was_cut_off_goes_on(tmp_path: Path, said: list[str]) -> None:
    action = Counted(tmp_path / "training")
    action.fail = True
    with pytest.raises(KeyboardInterrupt):
        Steps(tmp_path, said.append).run("train", "request", action.folder, "result", action)
    action.fail = False
    Steps(tmp_path, said.append).run("train", "request", action.folder, "result", action)
    assert action.calls == [False, True]
    assert (action.folder / "partial").exists()


def test_another_request_keeps_the_old_results_aside(tmp_path: Path, said: list[str]) -> None:
    action = Counted(tmp_path / "training")
    for request in ("first", "second", "third"):
        Steps(tmp_path, said.append).run("train", request, action.folder, "result", action)
    assert action.calls == [False, False, False]
    assert (tmp_path / "training.old1" / "result").read_text() == "call 1"
    assert (tmp_path / "training.old2" / "result").read_text() == "call 2"
    assert (tmp_path / "training" / "result").read_text() == "call 3"


def test_a_step_that_keeps_itself_stays_in_place(tmp_path: Path, said: list[str]) -> None:
    action = Counted(tmp_path / "dataset")
    for request in ("first", "second"):
        steps = Steps(tmp_path, said.append)
        steps.run("prepare", request, action.folder, "result", action, keeps_itself=True)
    assert action.calls == [False, False]
    assert sorted(os.listdir(tmp_path)) == [".steps", "dataset"]


def test_a_folder_that_the_pipeline_did_not_make_is_never_moved(tmp_path: Path, said: list[str]) -> None:
    action = Counted(tmp_path / "mine")
    action.folder.mkdir()
    (action.folder / "precious").touch()
    Steps(tmp_path, said.append).run("train", "request", action.folder, "result", action)
    assert action.calls == [False]
    assert (action.folder / "precious").exists()


def test_a_result_that_was_deleted_is_made_again(tmp_path: Path, said: list[str]) -> None:
    action = Counted(tmp_path / "training")
    Steps(tmp_path, said.append).run("train", "request", action.folder, "result", action)
    (action.folder / "result").unlink()
    Steps(tmp_path, said.append).run("train", "request", action.folder, "result", action)
    assert action.calls == [False, True]


def test_a_step_without_a_result_is_an_error(tmp_path: Path, said: list[str]) -> None:
    with pytest.raises(FileNotFoundError, match="the step train ended without making"):
        Steps(tmp_path, said.append).run("train", "request", tmp_path / "t", "result", lambda unfinished: None)


def test_a_listing_sees_new_changed_and_touched_files(tmp_path: Path) -> None:
    scan = tmp_path / "imagesTr" / "a.nii.gz"
    scan.parent.mkdir()
    scan.write_bytes(b"one")
    first = folder_listing(tmp_path)
    assert [entry[:2] for entry in first] == [("imagesTr/a.nii.gz", 3)]
    assert fingerprint(folder_listing(tmp_path)) == fingerprint(first)
    os.utime(scan, ns=(1, 1))
    assert fingerprint(folder_listing(tmp_path)) != fingerprint(first)
    with pytest.raises(ValueError, match="not a folder"):
        folder_listing(scan)
