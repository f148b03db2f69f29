"""Evaluator: every system on every case, a row each, failures counted; a killed evaluation goes on where it was."""

import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from sam3d_objects.evaluation.artefacts import save_artefact, save_truth, write_index
from sam3d_objects.evaluation.attempt import attempt
from sam3d_objects.evaluation.baselines import Predictor
from sam3d_objects.evaluation.cases import Case, Material
from sam3d_objects.evaluation.ceilings import Ceiling, answer
from sam3d_objects.evaluation.compare import compare
from sam3d_objects.evaluation.metrics import METRICS
from sam3d_objects.evaluation.peak_memory import PeakMemory
from sam3d_objects.evaluation.rows import PartialRows, Row, one_line, write_rows
from sam3d_objects.evaluation.stated import Stated, stated_arrays
from sam3d_objects.evaluation.workers import can_fork, forked
from sam3d_objects.mesh import Mesh

System = Predictor | Ceiling | Mapping[str, Predictor]
"""A predictor, one for each organ (baselines are told which organ it is), or a ceiling, which is told the truth."""

Progress = Callable[[int, int, str], None]
"""(rows done, rows in all, a line with the time left)."""

_DIGITS = 6
_POSITION_DIGITS = 3
Job = tuple[int, tuple[str, ...]]
"""A case's number, and the systems whose rows are missing."""


def evaluate(
    cases: Sequence[Case],
    systems: Mapping[str, System],
    out: Path,
    seed: int = 0,
    *,
    identity: str = "",
    artefacts: bool = True,
    progress: Progress | None = None,
    workers: int = 0,
) -> list[Row]:
    """Judge every system on every case.

    Rows are appended to ``rows.csv.partial`` one by one; a killed evaluation that is called again with the same
    `identity` and seed skips what it has. At the end they become ``rows.csv``, in the order of cases, then systems.
    The systems of a case are asked one after another, by one process.

    Args:
        cases: what is judged; those of one organ next to each other, so that its truth is prepared once.
        systems: name -> predictor.
        out: folder for rows.csv and artefacts/.
        seed: given to every predictor.
        identity: what is judged (fingerprints of data, base and adapter): rows of another identity are not
            kept.
        artefacts: whether to save meshes and pictures of the cuts.
        progress: called after each row.
        workers: forked processes, in each of which torch has one thread: the rows are the same to the last bit
            whatever their number, but for seconds and memory. 0 works in this process, with torch as it is. A GPU that
            this process uses already cannot be used by workers.

    Returns:
        the rows, as in rows.csv.

    Raises:
        ValueError: no cases, a case twice, no systems, a system that lacks an organ, or workers where a process cannot
            be forked.
        OSError: the results cannot be written, or a worker was killed.
    """
    _check(cases, systems, workers)
    out.mkdir(parents=True, exist_ok=True)
    partial_path = out / "rows.csv.partial"
    with PartialRows(partial_path, f"{identity} seed={seed}") as kept:
        known = {row.key: row for row in kept.rows}
        left = [
            (n, tuple(name for name in systems if (*case.key, name, seed) not in known)) for n, case in enumerate(cases)
        ]
        groups = _groups(cases, [job for job in left if job[1]])
        judge = partial(_judged, cases, systems, seed, out if artefacts else None)
        clock = _Clock(len(cases) * len(systems), len(known), progress)
        for row in forked(groups, judge, workers) if workers and groups else _here(groups, judge):
            kept.add(row)
            known[row.key] = row
            clock.tick()
    rows = [known[(*case.key, name, seed)] for case in cases for name in systems]
    if artefacts:
        write_index(out, rows)
    write_rows(out / "rows.csv", rows)
    partial_path.unlink()
    return rows


def _check(cases: Sequence[Case], systems: Mapping[str, System], workers: int) -> None:
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


def _groups(cases: Sequence[Case], jobs: Sequence[Job]) -> list[list[Job]]:
    """Jobs whose cases share an organ's truth."""
    runs = itertools.groupby(jobs, key=lambda job: (cases[job[0]].case, cases[job[0]].organ))
    return [list(run) for _, run in runs]


def _here(groups: Sequence[Sequence[Job]], judge: Callable[[Job], Iterator[Row]]) -> Iterator[Row]:
    for job in itertools.chain.from_iterable(groups):
        yield from judge(job)


class _Clock:
    """Says how much is done, and how long the rest takes at the pace so far."""

    def __init__(self, total: int, done: int, progress: Progress | None) -> None:
        self.total, self.before, self.done, self.progress = total, done, done, progress
        self.started = time.monotonic()

    def tick(self) -> None:
        """One more row."""
        self.done += 1
        if self.progress is not None:
            pace_s = (time.monotonic() - self.started) / (self.done - self.before)
            minutes, seconds = divmod(round(pace_s * (self.total - self.done)), 60)
            line = f"{self.done} of {self.total} predictions scored, {minutes}:{seconds:02d} left"
            self.progress(self.done, self.total, line)


def _judged(
    cases: Sequence[Case], systems: Mapping[str, System], seed: int, out: Path | None, job: Job
) -> Iterator[Row]:
    """The rows of one case, each as it is ready."""
    number, names = job
    case, material = cases[number], cases[number].load()
    if out is not None:
        save_truth(out, case, material)
    for name in names:
        system = systems[name]
        yield _judge(case, material, name, system[case.organ] if isinstance(system, Mapping) else system, seed, out)


def _judge(case: Case, material: Material, name: str, system: Predictor | Ceiling, seed: int, out: Path | None) -> Row:
    """One row: predict, compare, save. Nothing that the prediction does wrong gets out of here."""
    peak = PeakMemory()
    bounds = material.truth.diagonal_mm, material.truth.volume_ml
    stated: Stated | None = None
    note = ""

    def predict() -> Mesh:
        nonlocal stated
        with peak:
            predicted: object = answer(system, material, seed)
        if isinstance(predicted, Stated):
            stated = predicted
            return stated.mesh
        return predicted  # type: ignore[return-value]  # what is no mesh is refused when it is compared

    def score(mesh: Mesh) -> dict[str, float]:
        nonlocal note
        comparison = compare(mesh, material.truth, material.slice)
        note = comparison.note
        return {metric: column.of(comparison) for metric, column in METRICS.items()}

    tried = attempt(predict, score)
    scores = {
        metric: column.worst(*bounds) if tried.scores is None else column.capped(tried.scores[metric], *bounds)
        for metric, column in METRICS.items()
    }
    row = Row(
        *(case.case, case.patient, case.organ, case.plane, case.slice_kind, case.slice_index),
        name,
        seed,
        tried.scores is None,
        tried.reason or one_line(note),
        round(tried.seconds, 3),
        {metric: round(value, _DIGITS) for metric, value in scores.items()},
        None if peak.mib is None else round(peak.mib, 1),
        round(material.slice_position, _POSITION_DIGITS),
    )
    if out is not None:
        further = {} if stated is None or row.failed else stated_arrays(stated, material.truth)
        save_artefact(out, row, material, tried.mesh, tried.trace, further)
    return row
