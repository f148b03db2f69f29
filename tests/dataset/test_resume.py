"""`prepare` may be killed at any moment: what is done stays, what has changed is made again."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sam3d_objects.dataset import Manifest, PrepareOptions, convert, prepare
from sam3d_objects.dataset.record import CaseRecord, store
from tests.dataset.scans import organ_of, write_decathlon, write_scan

IDS = [f"c{number}" for number in range(5)]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def run(source: Path, out: Path, **options: object) -> tuple[Manifest, list[str]]:
    lines: list[str] = []
    chosen = PrepareOptions(structures="1+2", **options)  # type: ignore[arg-type]  # checked when made
    return prepare(source, out, chosen, say=lines.append, show_progress=False), lines


def made_again(folder: Path, before: dict[str, int]) -> list[str]:
    return [name for name, inode in before.items() if (folder / "cases" / name).stat().st_ino != inode]


def inodes(folder: Path) -> dict[str, int]:
    return {name: (folder / "cases" / name).stat().st_ino for name in IDS}


def test_two_runs_give_the_same_bytes_with_and_without_workers(tmp_path: Path) -> None:
    source = write_decathlon(tmp_path / "raw", IDS)
    run(source, tmp_path / "one")
    run(source, tmp_path / "two", num_workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_only_what_changed_is_made_again(tmp_path: Path) -> None:
    source, out = write_decathlon(tmp_path / "raw", IDS), tmp_path / "out"
    first, _ = run(source, out)
    before = inodes(out)
    os.utime(source / "imagesTr" / "c0.nii.gz")  # the same bytes at another time
    assert run(source, out) == (first, run(source, out)[1])
    assert made_again(out, before) == []
    write_scan(source / "labelsTr" / "c1.nii.gz", organ_of(3).astype("uint8"))
    (out / "cases" / "c2" / "organ_0.npz").unlink()
    (out / "cases" / "c3" / "case.json").write_text('{"key": ')
    _, lines = run(source, out)
    assert "2 cases were already prepared and are unchanged" in lines
    assert made_again(out, before) == ["c1", "c2", "c3"]


def test_an_option_that_matters_makes_all_again_and_another_none(tmp_path: Path) -> None:
    source, out = write_decathlon(tmp_path / "raw", IDS), tmp_path / "out"
    first, _ = run(source, out)
    before = inodes(out)
    other, _ = run(source, out, seed=1, percentiles=(1.0, 99.0), val_fraction=0.4)
    assert made_again(out, before) == []
    assert other.fingerprint != first.fingerprint
    run(source, out, min_voxels=65)
    assert made_again(out, before) == IDS


def test_an_error_on_the_way_keeps_what_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, out = write_decathlon(tmp_path / "raw", IDS), tmp_path / "out"

    def full(folder: Path, record: CaseRecord, fill: object) -> CaseRecord:
        if folder.name == "c3":
            raise OSError(28, f"cannot write {folder}: No space left on device")
        return store(folder, record, fill)  # type: ignore[arg-type]  # passed on

    with monkeypatch.context() as patched:
        patched.setattr(convert, "store", full)
        with pytest.raises(OSError, match=r"cannot write .*c3: No space left"):
            run(source, out)
    assert sorted(os.listdir(out / "cases")) == ["c0", "c1", "c2"]
    with pytest.raises(ValueError, match=r"not a prepared data set.*again if it was interrupted"):
        Manifest.load(out)
    _, lines = run(source, out)
    assert "3 cases were already prepared and are unchanged" in lines


def test_a_case_half_written_is_not_there(tmp_path: Path) -> None:
    source, out = write_decathlon(tmp_path / "raw", IDS), tmp_path / "out"
    first, _ = run(source, out)
    record_of = (out / "cases" / "c0" / "case.json").read_bytes()

    def fill(folder: Path) -> CaseRecord:
        (folder / "volume.npz").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    entry = first.cases[0]
    with pytest.raises(OSError, match=r"cannot write .*cases/c0: .*No space left"):
        store(out / "cases" / "c0", CaseRecord("key", {}, entry, (), ()), fill)
    assert (out / "cases" / "c0" / "case.json").read_bytes() == record_of
    assert sorted(os.listdir(out / "cases")) == IDS


def test_a_killed_run_goes_on_and_ends_the_same(tmp_path: Path) -> None:
    source = write_decathlon(tmp_path / "raw", [f"c{number}" for number in range(16)])
    cases = tmp_path / "killed" / "cases"
    (cases / ".0123456789ab.c9").mkdir(parents=True)  # as a kill leaves it
    code = (
        "import sys; from pathlib import Path; from sam3d_objects.dataset import PrepareOptions, prepare; "
        "prepare(Path(sys.argv[1]), Path(sys.argv[2]), PrepareOptions(structures='1+2'))"
    )
    command = [sys.executable, "-c", code, str(source), str(tmp_path / "killed")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    wait_for(lambda: len(list(cases.glob("c*"))) >= 3 or process.poll() is not None)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = len(list(cases.glob("c*")))
    assert 3 <= done < 16, "killed too late to show anything"
    _, lines = run(source, tmp_path / "killed")
    assert any("were already prepared" in line for line in lines)
    run(source, tmp_path / "whole")
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "nothing happened for a minute"
        time.sleep(0.005)
