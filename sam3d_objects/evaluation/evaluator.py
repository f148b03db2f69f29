"""Evaluator: every system on every case, a row each, failures counted; a killed evaluation goes on where it was."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from sam3d_objects.evaluation.artefacts import drop_truths, save_artefact, save_truth, write_index
from sam3d_objects.evaluation.attempt import attempt
from sam3d_objects.evaluation.cases import Case, Material
from sam3d_objects.evaluation.ceilings import Ceiling, answer
from sam3d_objects.evaluation.compare import compare
from sam3d_objects.evaluation.jobs import Clock, Job, Progress, System, check_judged, judged_rows, missing_jobs
from sam3d_objects.evaluation.metrics import METRICS
from sam3d_objects.evaluation.peak_memory import PeakMemory
from sam3d_objects.evaluation.predictor import Predictor, Stated, mesh_of
from sam3d_objects.evaluation.rows import PartialRows, Row, check_vacant, is_header, one_line, write_rows
from sam3d_objects.evaluation.stated import stated_arrays
from sam3d_objects.mesh import Mesh

_DIGITS = 6
_POSITION_DIGITS = 3


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
    conclude: Callable[[list[Row]], None] | None = None,
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
        conclude: told the rows before that is removed by which a killed evaluation goes on: what it writes or finds
            wrong costs no prediction a second time.

    Returns:
        the rows, as in rows.csv.

    Raises:
        ValueError: what `check_judged` refuses, or a folder with rows of another kind of evaluation.
        OSError: the results cannot be written, or a worker was killed.
    """
    check_judged(cases, systems, workers)
    check_vacant(out / "rows.csv", is_header)
    out.mkdir(parents=True, exist_ok=True)
    partial_path = out / "rows.csv.partial"
    with PartialRows(partial_path, f"{identity} seed={seed}") as kept:
        known = {row.key: row for row in kept.rows}
        jobs = missing_jobs(cases, systems, seed, known)
        if artefacts and not known:
            drop_truths(out, cases)  # what an evaluation of other data left
        judge = partial(_judged, cases, systems, seed, out if artefacts else None)
        clock = Clock(len(cases) * len(systems), sum(len(names) for _, names in jobs), progress)
        for row in judged_rows(_groups(cases, jobs), judge, workers):
            kept.add(row)
            known[row.key] = row
            clock.tick()
    rows = [known[(*case.key, name, seed)] for case in cases for name in systems]
    if artefacts:
        write_index(out, rows)
    write_rows(out / "rows.csv", rows)
    if conclude is not None:
        conclude(rows)
    partial_path.unlink()
    return rows


def _groups(cases: Sequence[Case], jobs: Sequence[Job]) -> list[list[Job]]:
    """Jobs whose cases share an organ's truth."""
    runs = itertools.groupby(jobs, key=lambda job: (cases[job[0]].case, cases[job[0]].organ))
    return [list(run) for _, run in runs]


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
            predicted = answer(system, material, seed)
        if isinstance(predicted, Stated):
            stated = predicted
        return mesh_of(predicted)

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
