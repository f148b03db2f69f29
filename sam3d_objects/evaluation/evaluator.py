"""Evaluator: every system on every case, a row each, failures counted; a killed evaluation goes on where it was."""

import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from sam3d_objects.evaluation.artefacts import FOLDER, file_name, save_artefact, write_index
from sam3d_objects.evaluation.baselines import Predictor
from sam3d_objects.evaluation.cases import Case, Material
from sam3d_objects.evaluation.compare import compare
from sam3d_objects.evaluation.metrics import METRICS
from sam3d_objects.evaluation.rows import PartialRows, Row, one_line, write_rows
from sam3d_objects.mesh import Mesh

System = Predictor | Mapping[str, Predictor]
"""A predictor, or one for each organ (baselines are told which organ it is)."""

Progress = Callable[[int, int, str], None]
"""(rows done, rows in all, a line with the time left)."""

_DIGITS = 6


def evaluate(
    cases: Sequence[Case],
    systems: Mapping[str, System],
    out: Path,
    seed: int = 0,
    *,
    identity: str = "",
    artefacts: bool = True,
    progress: Progress | None = None,
) -> list[Row]:
    """Judge every system on every case.

    Rows are appended to ``rows.csv.partial`` one by one; a killed evaluation that is called again with the same
    `identity` and seed skips what it has. At the end they become ``rows.csv``, in the order of cases, then systems.

    Args:
        cases: what is judged; those of one organ next to each other, so that its truth is prepared once.
        systems: name -> predictor.
        out: folder for rows.csv and artefacts/.
        seed: given to every predictor.
        identity: what is judged (fingerprints of data, base and adapter): rows of another identity are not
            kept.
        artefacts: whether to save meshes and pictures of the cuts.
        progress: called after each row.

    Returns:
        the rows, as in rows.csv.

    Raises:
        ValueError: no cases, a case twice, no systems, or a system that lacks an organ.
        OSError: the results cannot be written.
    """
    _check(cases, systems)
    out.mkdir(parents=True, exist_ok=True)
    partial = out / "rows.csv.partial"
    total = len(cases) * len(systems)
    with PartialRows(partial, f"{identity} seed={seed}") as kept:
        known = {row.key: row for row in kept.rows}
        started, before = time.monotonic(), len(known)
        for case in cases:
            missing = [name for name in systems if (*case.key, name, seed) not in known]
            material = case.load() if missing else None
            for name in missing:
                assert material is not None
                row = _judge(case, material, name, systems[name], seed, out if artefacts else None)
                kept.add(row)
                known[row.key] = row
                if progress is not None:
                    seconds = (time.monotonic() - started) / (len(known) - before)
                    progress(len(known), total, _progress_line(len(known), total, seconds * (total - len(known))))
    rows = [known[(*case.key, name, seed)] for case in cases for name in systems]
    if artefacts:
        write_index(out, {file_name(row): row for row in rows if (out / FOLDER / file_name(row)).is_file()})
    write_rows(out / "rows.csv", rows)
    partial.unlink()
    return rows


def _check(cases: Sequence[Case], systems: Mapping[str, System]) -> None:
    if not cases:
        raise ValueError("no cases to evaluate: the test split is empty")
    if not systems:
        raise ValueError("no systems to evaluate")
    keys = [case.key for case in cases]
    if len(set(keys)) != len(keys):
        twice = sorted({key for key in keys if keys.count(key) > 1})
        raise ValueError(f"cases are given twice: {twice[:3]}")
    organs = {case.organ for case in cases}
    for name, system in systems.items():
        if isinstance(system, Mapping) and not organs <= set(system):
            raise ValueError(f"system {name!r} has no predictor for {', '.join(sorted(organs - set(system)))}")


def _progress_line(done: int, total: int, seconds_left: float) -> str:
    minutes, seconds = divmod(round(seconds_left), 60)
    return f"{done} of {total} predictions scored, {minutes}:{seconds:02d} left"


def _judge(case: Case, material: Material, name: str, system: System, seed: int, out: Path | None) -> Row:
    """One row: predict, compare, save. Nothing that the prediction does wrong gets out of here."""
    predictor = system[case.organ] if isinstance(system, Mapping) else system
    diagonal_mm = material.truth.diagonal_mm
    mesh: Mesh | None = None
    reason = trace = ""
    started = time.perf_counter()
    seconds = None
    try:
        predicted = predictor(material.slice, seed)
        seconds = time.perf_counter() - started
        mesh = predicted if isinstance(predicted, Mesh) else None
        comparison = compare(predicted, material.truth, material.slice)
        raw = {metric: column.of(comparison) for metric, column in METRICS.items()}
        if not np.isfinite(list(raw.values())).all():
            raise ValueError(f"a metric is not finite: {raw}")
        scores = {metric: METRICS[metric].capped(value, diagonal_mm) for metric, value in raw.items()}
    except Exception as error:  # the one broad except of the project: a failed case must be a row
        reason = one_line(f"{type(error).__name__}: {error}")
        trace = traceback.format_exc()
        scores = {metric: column.worst(diagonal_mm) for metric, column in METRICS.items()}
    if seconds is None:
        seconds = time.perf_counter() - started
    row = Row(
        *(case.case, case.patient, case.organ, case.plane, case.slice_kind, case.slice_index),
        name,
        seed,
        bool(trace),
        reason,
        round(seconds, 3),
        {metric: round(value, _DIGITS) for metric, value in scores.items()},
    )
    if out is not None:
        save_artefact(out, row, material, mesh, not row.failed, trace)
    return row
