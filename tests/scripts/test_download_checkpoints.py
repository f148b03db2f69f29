"""Downloading against a stand-in for the hub: resumed, verified, and refusals explained."""

import hashlib
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from sam3d_objects.assets.release_files import ReleaseFile, ReleaseTable
from scripts import download_checkpoints
from scripts.download_checkpoints import INCOMING, download, hub, main

CONTENTS = {"pipeline.yaml": b"a: 1\n", "ss_generator.ckpt": b"weights", "spare.pt": b"twice"}


def release(contents: dict[str, bytes]) -> ReleaseTable:
    files = {
        name: ReleaseFile(
            name, len(content), hashlib.sha256(content).hexdigest(), "spare" if "spare" in name else "structure"
        )
        for name, content in contents.items()
    }
    return ReleaseTable("somebody/model", "abc123", files, {})


class XetDownloadError(Exception):
    """Named as the hub names it; it has no base in common with the hub's others."""


class FakeHub:
    """A hub that keeps the files in a folder of the repository, as the real one does."""

    def __init__(self, contents: dict[str, bytes], refusal: Exception | None = None) -> None:
        self.contents, self.refusal = contents, refusal
        self.errors = SimpleNamespace(XetDownloadError=XetDownloadError)
        self.asked: list[str] = []

    def list_repo_files(self, repo_id: str, *, revision: str) -> list[str]:
        assert (repo_id, revision) == ("somebody/model", "abc123")
        return ["README.md", *(f"checkpoints/{name}" for name in self.contents)]

    def hf_hub_download(self, repo_id: str, filename: str, *, revision: str, local_dir: str) -> str:
        assert (repo_id, revision) == ("somebody/model", "abc123")
        self.asked.append(filename)
        if self.refusal is not None:
            raise self.refusal
        path = Path(local_dir) / filename
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.contents[Path(filename).name])
        return str(path)


def listing(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_all_but_the_spare_files_come(tmp_path: Path) -> None:
    fake = FakeHub(CONTENTS)
    download(tmp_path / "base", release(CONTENTS), fake)
    assert listing(tmp_path / "base") == {"pipeline.yaml", "ss_generator.ckpt"}
    assert fake.asked == ["checkpoints/pipeline.yaml", "checkpoints/ss_generator.ckpt"]
    assert (tmp_path / "base" / "ss_generator.ckpt").read_bytes() == b"weights"


def test_what_is_there_and_right_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    download(tmp_path, release(CONTENTS), FakeHub(CONTENTS))
    again = FakeHub(CONTENTS)
    download(tmp_path, release(CONTENTS), again)
    assert not again.asked
    (tmp_path / "ss_generator.ckpt").write_bytes(b"weighty")
    download(tmp_path, release(CONTENTS), again)
    assert again.asked == ["checkpoints/ss_generator.ckpt"]
    assert (tmp_path / "ss_generator.ckpt").read_bytes() == b"weights"
    assert "ss_generator.ckpt: SHA-256" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("came", "said"),
    [(b"half", "4 bytes, expected 7"), (b"", r"empty \(0 bytes\)"), (b"foreign", "SHA-256 [0-9a-f]{64}, expected")],
)
def test_a_wrong_file_never_gets_its_name(tmp_path: Path, came: bytes, said: str) -> None:
    fake = FakeHub({**CONTENTS, "ss_generator.ckpt": came})
    with pytest.raises(ValueError, match=rf"1 of 2 files are not those of revision abc123.*ss_generator\.ckpt: {said}"):
        download(tmp_path, release(CONTENTS), fake)
    assert listing(tmp_path) == {"pipeline.yaml", INCOMING}, "what came whole is kept"
    assert not list((tmp_path / INCOMING).rglob("*.ckpt")), "what came wrong is not"
    download(tmp_path, release(CONTENTS), FakeHub(CONTENTS))
    assert listing(tmp_path) == set(CONTENTS) - {"spare.pt"}


class HubThatKeeps(FakeHub):
    """Takes a file that is there for whole, as the real one does."""

    def hf_hub_download(self, repo_id: str, filename: str, *, revision: str, local_dir: str) -> str:
        path = Path(local_dir) / filename
        if path.is_file():
            return str(path)
        return super().hf_hub_download(repo_id, filename, revision=revision, local_dir=local_dir)


def test_a_bad_file_that_an_earlier_run_left_is_fetched_again(tmp_path: Path) -> None:
    left = tmp_path / INCOMING / "checkpoints"
    left.mkdir(parents=True)
    (left / "ss_generator.ckpt").write_bytes(b"foreign")
    (left / "pipeline.yaml").write_bytes(CONTENTS["pipeline.yaml"])
    fake = HubThatKeeps(CONTENTS)
    download(tmp_path, release(CONTENTS), fake)
    assert fake.asked == ["checkpoints/ss_generator.ckpt"], "the other one was right"
    assert (tmp_path / "ss_generator.ckpt").read_bytes() == b"weights"


def test_a_file_that_the_repository_lacks(tmp_path: Path) -> None:
    fake = FakeHub({"pipeline.yaml": CONTENTS["pipeline.yaml"]})
    with pytest.raises(ValueError, match=r"ss_generator\.ckpt: the repository has no such file"):
        download(tmp_path, release(CONTENTS), fake)


class GatedRepoError(OSError):
    """Named as the hub names it."""


@pytest.mark.parametrize("kind", ["gated", "unauthorised"])
def test_gated_access_is_explained(tmp_path: Path, kind: str) -> None:
    refusal = GatedRepoError("you are not in the list") if kind == "gated" else OSError("401 Client Error")
    if kind == "unauthorised":
        refusal.response = SimpleNamespace(status_code=401)  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=r"no access to somebody/model: accept the licence at .*hf auth login"):
        download(tmp_path, release(CONTENTS), FakeHub(CONTENTS, refusal))


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left on device"):
        download(tmp_path, release(CONTENTS), FakeHub(CONTENTS, OSError(28, "No space left on device")))


@pytest.mark.parametrize("kind", [RuntimeError, XetDownloadError])
def test_what_the_hub_s_package_raises_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: type[Exception]
) -> None:
    fake = FakeHub(CONTENTS, kind("Data processing error:\n  CAS service"))
    monkeypatch.setattr(download_checkpoints, "release_table", lambda: release(CONTENTS))
    monkeypatch.setattr(download_checkpoints, "hub", lambda: fake)
    monkeypatch.setattr(sys, "argv", ["download_checkpoints.py", "--out", str(tmp_path)])
    assert main() == 1
    said = capsys.readouterr().err
    assert (
        f"error: somebody/model: the hub failed with {kind.__name__}: Data processing error: CAS service; run" in said
    )
    assert said.count("\n") == 1


def test_our_own_mistakes_are_not_hidden(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        download(tmp_path, release(CONTENTS), FakeHub(CONTENTS, KeyError("x")))


def test_without_the_hub_s_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ValueError, match=r"pip install \"huggingface_hub"):
        hub()


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(download_checkpoints, "release_table", lambda: release(CONTENTS))
    monkeypatch.setattr(sys, "argv", ["download_checkpoints.py", "--out", str(tmp_path)])
    monkeypatch.setattr(download_checkpoints, "hub", lambda: FakeHub({}))
    assert main() == 1
    assert "error: 2 of 2 files" in capsys.readouterr().err
    monkeypatch.setattr(download_checkpoints, "hub", lambda: FakeHub(CONTENTS))
    assert main() == 0
    assert f"use it with --base {tmp_path}" in capsys.readouterr().out
