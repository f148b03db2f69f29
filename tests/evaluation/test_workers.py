"""Workers give the rows that one process gives; a killed evaluation keeps what is done, and leaves no process."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sam3d_objects.evaluation import Case, Predictor, Row, evaluate, read_rows
from sam3d_objects.evaluation.workers import Queue, can_fork, forked
from sam3d_objects.mesh import Mesh
from sam3d_objects.volume import SliceInput
from tests.evaluation.solids import ball_case, ball_mesh

pytestmark = pytest.mark.skipif(not can_fork(), reason="workers are forked, on Linux alone")

BALL = ball_mesh(9.0, points=24)
CASES = [ball_case(name, plane=plane) for name in ("c1", "c2", "c3") for plane in ("axial", "coronal")]


def jittered(slice: SliceInput, seed: int) -> Mesh:
    """Numbers by torch and numpy, from the slice and the seed."""
    generator = torch.Generator().manual_seed(seed + int(slice.mask.sum()))
    factor = float(1 + 0.1 * torch.rand((), generator=generator))
    return Mesh(BALL.vertices * factor + np.random.default_rng(seed).normal(size=3), BALL.faces)


def missing(slice: SliceInput, seed: int) -> Mesh:
    raise ValueError(f"no mesh of the {slice.plane.name} slice")


def without_costs(rows: list[Row]) -> list[Row]:
    return [replace(row, seconds=0.0, peak_mib=None) for row in rows]


def test_the_rows_do_not_depend_on_the_workers(tmp_path: Path) -> None:
    systems = {"a": jittered, "b": missing}
    here, one, three = (evaluate(CASES, systems, tmp_path / str(workers), 5, workers=workers) for workers in (0, 1, 3))
    assert without_costs(here) == without_costs(one) == without_costs(three)
    assert read_rows(tmp_path / "3" / "rows.csv") == three
    files = [sorted(path.name for path in (tmp_path / n / "artefacts").iterdir()) for n in ("0", "3")]
    assert files[0] == files[1] and len(files[0]) == 6 * 2 + 3 + 1
    assert not multiprocessing.active_children()


def test_more_than_one_process_works(tmp_path: Path) -> None:
    def noted(slice: SliceInput, seed: int) -> Mesh:
        (tmp_path / f"{os.getpid()}.pid").touch()
        time.sleep(0.2)
        assert torch.get_num_threads() == 1
        return BALL

    rows = evaluate(CASES, {"a": noted}, tmp_path / "out", workers=2, artefacts=False)
    assert not any(row.failed for row in rows)
    pids = {int(path.stem) for path in tmp_path.glob("*.pid")}
    assert len(pids) == 2 and os.getpid() not in pids


def test_an_interrupted_evaluation_goes_on_without_predicting_twice(tmp_path: Path) -> None:
    def counted(slice: SliceInput, seed: int) -> Mesh:
        with open(tmp_path / "calls", "a", encoding="utf-8") as stream:
            stream.write(".")
        return jittered(slice, seed)

    def interrupt(done: int, total: int, line: str) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(CASES, {"a": counted}, tmp_path / "out", workers=2, progress=interrupt)
    assert not multiprocessing.active_children() and not (tmp_path / "out" / "rows.csv").exists()
    kept = len((tmp_path / "out" / "rows.csv.partial").read_text().splitlines()) - 2
    assert kept == 2
    (tmp_path / "calls").write_text("")
    resumed = evaluate(CASES, {"a": counted}, tmp_path / "out", workers=2)
    assert len((tmp_path / "calls").read_text()) == len(CASES) - kept
    whole = evaluate(CASES, {"a": jittered}, tmp_path / "whole")
    assert without_costs(resumed) == without_costs(whole)


def test_a_worker_that_is_killed_is_named_and_the_rows_are_kept(tmp_path: Path) -> None:
    def killed(slice: SliceInput, seed: int) -> Mesh:
        if slice.plane.name == "coronal":
            os.kill(os.getpid(), signal.SIGKILL)
        return BALL

    with pytest.raises(ChildProcessError, match=r"exit code -9 .* fewer --workers"):
        evaluate(CASES[:2], {"a": killed}, tmp_path, workers=1)
    assert len((tmp_path / "rows.csv.partial").read_text().splitlines()) == 2 + 1


def test_what_a_worker_cannot_read_is_no_failure_of_a_system(tmp_path: Path) -> None:
    def load() -> None:
        raise ValueError("organ_0.npz is damaged")

    broken = Case("c", "c", "ball", "axial", "largest", 3, load)  # type: ignore[arg-type]  # it never returns
    with pytest.raises(ValueError, match="damaged"):
        evaluate([*CASES, broken], {"a": jittered}, tmp_path, workers=2)


ORPHANS = """
import os, sys, time
from sam3d_objects.evaluation.workers import forked

def work(job):
    os.write(1, b"%d\\n" % os.getpid())  # One piece, so that two workers' lines do not mix.
    yield job
    time.sleep(0.3)
    yield job

for result in forked([[1, 2, 3], [4, 5, 6]], work, 2):
    time.sleep(60)
"""


def test_workers_end_when_their_parent_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", ORPHANS], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        workers = [int(parent.stdout.readline()) for _ in range(2)]
        parent.kill()
        parent.wait()
        # They are whoever's children now: gone, or a zombie that is not collected yet.
        deadline = time.monotonic() + 10
        while any(map(_lives, workers)) and time.monotonic() < deadline:
            time.sleep(0.05)
    assert not any(map(_lives, workers))


def _lives(process: int) -> bool:
    try:
        status = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False
    return status.rsplit(")", 1)[1].split()[0] != "Z"


def test_other_exceptions_are_shown_and_end_the_worker(capfd: pytest.CaptureFixture[str]) -> None:
    def work(job: int) -> Iterator[int]:
        if job:
            raise AssertionError("only we can cause this")
        yield job

    with pytest.raises(ChildProcessError, match="exit code 1"):
        list(forked([[1]], work, 1))
    assert "AssertionError: only we can cause this" in capfd.readouterr().err


class TestQueue:
    def test_a_group_stays_with_its_worker(self) -> None:
        queue = Queue([["a1", "a2"], ["b1", "b2"]])
        assert [queue.take(worker) for worker in (0, 1, 0, 1, 0)] == ["a1", "b1", "a2", "b2", None]

    def test_who_is_done_first_begins_the_next_group_then_helps_with_the_longest(self) -> None:
        queue = Queue([["a1", "a2", "a3", "a4"], ["b1"], ["c1"]])
        assert [queue.take(worker) for worker in (0, 1, 1, 1)] == ["a1", "b1", "c1", "a4"]
        assert [queue.take(worker) for worker in (0, 1, 0)] == ["a2", "a3", None]


def test_workers_where_nothing_forks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    systems: dict[str, Predictor] = {"a": jittered}
    with pytest.raises(ValueError, match="2 workers need a system that forks"):
        evaluate(CASES, systems, tmp_path, workers=2)
