"""Workers: forked processes that do jobs and send each result as it comes.

Forked, because they then share what the parent has loaded (models, fitted baselines) without a copy. torch works with
one thread in each, and so does not depend on how many there are.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from typing import Any, Generic, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")

_RESULT, _ERROR, _DONE = "result", "error", "done"


def can_fork() -> bool:
    """Whether this system forks safely: Linux does; on macOS system libraries break, Windows cannot."""
    return sys.platform == "linux"


class Queue(Generic[Job]):
    """Jobs in groups that share work, handed out so that a group stays with one worker as long as others are busy.

    Args:
        groups: jobs; those of a group are best done by one worker in their order.
    """

    def __init__(self, groups: Sequence[Sequence[Job]]) -> None:
        self._left = [deque(group) for group in groups]
        self._own: dict[int, int] = {}
        self._begun: set[int] = set()

    def take(self, worker: int) -> Job | None:
        """The next job of the worker's group, else of a group that nobody began, else the last of the longest."""
        own = self._own.get(worker)
        if own is None or not self._left[own]:
            fresh = [number for number, jobs in enumerate(self._left) if jobs and number not in self._begun]
            if not fresh:
                longest = max(self._left, key=len)
                return longest.pop() if longest else None
            own = self._own[worker] = fresh[0]
            self._begun.add(own)
        return self._left[own].popleft()


@dataclass(frozen=True, eq=False)
class _Worker:
    number: int
    process: ForkProcess
    connection: Connection[Any, Any]


def forked(groups: Sequence[Sequence[Job]], work: Callable[[Job], Iterator[Result]], count: int) -> Iterator[Result]:
    """Do all jobs in `count` processes; results come in the order in which they are ready.

    When the iteration ends early, the processes are ended; when this process is killed, they end with their next
    result.

    Args:
        groups: at least one job; see `Queue`. A job is sent to a process, a result back.
        work: a job -> its results; it is inherited, not sent.
        count: at least 1; never more than there are jobs.

    Raises:
        ValueError, OSError: what `work` raised; other exceptions are shown by the process, which then ends.
        ChildProcessError: a process ended; most often it was killed, as there was no memory left.
    """
    queue = Queue(groups)
    workers: list[_Worker] = []
    try:
        for number in range(min(count, sum(map(len, groups)))):
            workers.append(_start(number, work, [worker.connection for worker in workers]))
        busy = {worker.connection: worker for worker in workers if _give(worker, queue)}
        while busy:
            for connection in wait(list(busy)):
                assert isinstance(connection, Connection)
                worker = busy[connection]
                kind, value = _receive(worker)
                if kind == _RESULT:
                    yield value
                elif kind == _ERROR:
                    raise value
                elif not _give(worker, queue):
                    del busy[connection]
    finally:
        for worker in workers:
            worker.process.terminate()
            worker.process.join()
            worker.connection.close()


def _start(number: int, work: Callable[[Job], Iterator[Result]], others: Sequence[Connection[Any, Any]]) -> _Worker:
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    # A worker that held the parent's ends would keep itself and others waiting when the parent is killed.
    process = context.Process(target=_serve, args=(theirs, [*others, ours], work), daemon=True)
    with warnings.catch_warnings():
        # Threads that a fork leaves behind are torch's and BLAS's, which the worker does not use, or know of forks.
        warnings.filterwarnings("ignore", ".*use of fork\\(\\) may lead to deadlocks", DeprecationWarning)
        process.start()
    theirs.close()
    return _Worker(number, process, ours)


def _give(worker: _Worker, queue: Queue[Any]) -> bool:
    job = queue.take(worker.number)
    if job is None:
        return False
    worker.connection.send(job)
    return True


def _receive(worker: _Worker) -> tuple[str, Any]:
    try:
        kind, value = worker.connection.recv()
    except EOFError as error:
        worker.process.join()
        raise ChildProcessError(
            f"a worker process ended with exit code {worker.process.exitcode} (-9: killed, most often because the "
            "memory ran out); run again with fewer --workers, what is done is kept"
        ) from error
    return kind, value


def _serve(
    connection: Connection[Any, Any], parents: Sequence[Connection[Any, Any]], work: Callable[[Any], Iterator[Any]]
) -> None:
    """The worker's life: a job in, its results out, until it is ended or the parent is gone."""
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted as well, and ends its workers
    for other in parents:
        other.close()
    torch.set_num_threads(1)
    with suppress(EOFError, BrokenPipeError):
        while True:
            for message in _messages(work, connection.recv()):
                connection.send(message)


def _messages(work: Callable[[Any], Iterator[Any]], job: Any) -> Iterator[tuple[str, Any]]:
    try:
        for result in work(job):
            yield _RESULT, result
    except (ValueError, OSError) as error:
        yield _ERROR, error
        return
    yield _DONE, None
