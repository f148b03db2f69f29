"""Jobs: what is judged, checked before it begins; what of it is missing; how far it is."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from sam3d_objects.evaluation.cases import Case
from sam3d_objects.evaluation.ceilings import Ceiling
from sam3d_objects.evaluation.predictor import Predictor
from sam3d_objects.evaluation.rows import Row, RowKey
from sam3d_objects.evaluation.workers import can_fork, forked

System = Predictor | Ceiling | Mapping[str, Predictor]
"""A predictor, one for each organ (baselines are told which organ it is), or a ceiling, which is told the truth."""

Progress = Callable[[int, int, str], None]
"""(rows done, rows in all, a line with the time left)."""

Job = tuple[int, tuple[str, ...]]
"""A case's number, and the systems whose rows are missing."""


def check_judged(cases: Sequence[Case], systems: Mapping[str, System], workers: int) -> None:
    """Refuse what cannot be judged.

    Raises:
        ValueError: no cases, a case twice, no systems, a system that lacks an organ, or workers where a process cannot
            be forked.
    """
    if not cases:
        raise ValueError("no cases to evaluate: the test split is empty")
    if not systems:
        raise ValueError("no systems to evaluate")
    if workers and not can_fork():
        raise ValueError(f"{workers} workers need a system that forks (Linux); take 0, which works in this process")
    keys = [case.key for case in cases]
    if len(set(keys)) != len(keys):
        twice = sorted({key for key in keys if keys.count(key) > 1})
        raise ValueError(f"cases are given twice: {twice[:3]}")
    organs = {case.organ for case in cases}
    for name, system in systems.items():
        if isinstance(system, Mapping) and not organs <= set(system):
            raise ValueError(f"system {name!r} has no predictor for {', '.join(sorted(organs - set(system)))}")


def missing_jobs(
    cases: Sequence[Case], systems: Mapping[str, System], seed: int, known: Collection[RowKey]
) -> list[Job]:
    """The cases that lack rows, each with the systems that lack one."""
    jobs = [
        (number, tuple(name for name in systems if (*case.key, name, seed) not in known))
        for number, case in enumerate(cases)
    ]
    return [job for job in jobs if job[1]]


def judged_rows(groups: Sequence[Sequence[Job]], judge: Callable[[Job], Iterator[Row]], workers: int) -> Iterator[Row]:
    """The rows of all jobs, as they are ready: by `workers` forked processes, or by this one where that is 0."""
    if workers and groups:
        yield from forked(groups, judge, workers)
        return
    for job in itertools.chain.from_iterable(groups):
        yield from judge(job)


class Clock:
    """Says how much is done, and how long the rest takes at the pace so far.

    Args:
        total: rows in all.
        left: how many of them are to be made.
        progress: is told.
    """

    def __init__(self, total: int, left: int, progress: Progress | None) -> None:
        self.total, self.before, self.done, self.progress = total, total - left, total - left, progress
        self.started = time.monotonic()

    def tick(self) -> None:
        """One more row."""
        self.done += 1
        if self.progress is not None:
            pace_s = (time.monotonic() - self.started) / (self.done - self.before)
            minutes, seconds = divmod(round(pace_s * (self.total - self.done)), 60)
            line = f"{self.done} of {self.total} predictions scored, {minutes}:{seconds:02d} left"
            self.progress(self.done, self.total, line)
