"""A function over many jobs, in this process or in others, with progress and time left."""

import multiprocessing
import multiprocessing.connection
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

JobType = TypeVar("JobType")
Result = TypeVar("Result")


def cpu_count() -> int:
    """How many CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_all(
    function: Callable[[JobType], Result],
    jobs: Sequence[JobType],
    num_workers: int,
    title: str,
    show_progress: bool = True,
) -> list[Result]:
    """Results in the order of the jobs.

    Args:
        function: a module's own function, so that a spawned process finds it.
        jobs: picklable when there are workers.
        num_workers: processes; 0 works here.
        title: shown beside the progress bar.
        show_progress: whether to show one.

    Raises:
        ValueError: a worker process was killed (most often for its memory).
        Exception: whatever `function` raises; jobs that have not begun are dropped then.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    if not jobs:
        return []
    results: dict[int, Result] = {}
    with Progress(*columns, disable=not show_progress) as progress:
        task = progress.add_task(title, total=len(jobs))
        for number, result in _results(function, jobs, num_workers):
            results[number] = result
            progress.advance(task)
    return [results[number] for number in range(len(jobs))]


def _results(
    function: Callable[[JobType], Result], jobs: Sequence[JobType], num_workers: int
) -> Iterator[tuple[int, Result]]:
    if num_workers == 0:
        for number, job in enumerate(jobs):
            yield number, function(job)
        return
    # spawn: a forked child would inherit the locks of whatever threads this process runs.
    context = multiprocessing.get_context("spawn")
    count = min(num_workers, len(jobs))
    pool = ProcessPoolExecutor(count, mp_context=context, initializer=_end_with_parent)
    try:
        numbers = {pool.submit(function, job): number for number, job in enumerate(jobs)}
        for future in as_completed(numbers):
            yield numbers[future], future.result()
    except BrokenProcessPool as error:
        raise ValueError(
            "a worker process was killed, most often because the memory ran out; run again with a smaller "
            "--num_workers (cases that are done are kept)"
        ) from error
    finally:
        # After an error the jobs that run are waited for: each ends with its case whole.
        pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """Let this worker end when its parent is killed; it would wait for its next job for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "only a worker calls this"
    sentinel = parent.sentinel

    def watch() -> None:
        multiprocessing.connection.wait([sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
