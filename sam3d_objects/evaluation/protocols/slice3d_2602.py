"""`slice3d-2602`: the published zero-shot benchmark of SAM 3D on medical slices, arXiv 2602.09407, as its code runs.

It compares shapes only: place and size are taken out of both surfaces, and ICP turns what is left. It has a low
ceiling: two samplings of one sphere score an F1 of .21 and a "Dice" of .50. Therefore every row holds, beside each
score, what a second sampling of the truth scores against the first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from sam3d_objects.arrays import FloatArray
from sam3d_objects.evaluation.attempt import attempt
from sam3d_objects.evaluation.cases import Case, Material
from sam3d_objects.evaluation.ceilings import Ceiling, answer
from sam3d_objects.evaluation.jobs import Clock, Job, Progress, System, check_judged, judged_rows, missing_jobs
from sam3d_objects.evaluation.peak_memory import PeakMemory
from sam3d_objects.evaluation.predictor import Predictor, mesh_of
from sam3d_objects.evaluation.protocols.point_metrics import POINT_METRICS, point_scores, surface_cloud
from sam3d_objects.evaluation.protocols.point_rows import POINT_COLUMNS, Journal, ceiling_of, write_point_rows
from sam3d_objects.evaluation.protocols.point_summary import write_point_summary
from sam3d_objects.evaluation.rows import Row, check_vacant
from sam3d_objects.evaluation.summary import SummaryOptions
from sam3d_objects.mesh import Mesh

PROTOCOL = "slice3d-2602"
_DIGITS = 6
# Each cloud has a seed of its own: equal draws would let a perfect prediction pass the ceiling.
_TRUTH_SEED, _AGAIN_SEED, _PREDICTION_SEED, _PAIRS_SEED = 2602, 9407, 26_029_407, 407


class _Shape:
    """The truth of one case as a cloud, and its ceiling, made once for all systems."""

    def __init__(self, mesh: Mesh) -> None:
        self.cloud = surface_cloud(mesh, np.random.default_rng(_TRUTH_SEED))
        again = surface_cloud(mesh, np.random.default_rng(_AGAIN_SEED))
        self.ceiling = self._against(again)

    def scores(self, mesh: object) -> dict[str, float]:
        """The metrics of a predicted mesh."""
        if not isinstance(mesh, Mesh):
            raise TypeError(f"a predictor must return a Mesh in patient mm, got {type(mesh).__name__}")
        if mesh.is_empty:
            raise ValueError("the predicted mesh has no faces")
        return self._against(surface_cloud(mesh, np.random.default_rng(_PREDICTION_SEED)))

    def _against(self, cloud: FloatArray) -> dict[str, float]:
        return point_scores(cloud, self.cloud, np.random.default_rng(_PAIRS_SEED))


def run_protocol(
    cases: Sequence[Case],
    systems: Mapping[str, System],
    out: Path,
    seed: int = 0,
    *,
    identity: str = "",
    options: SummaryOptions | None = None,
    progress: Progress | None = None,
    workers: int = 0,
) -> list[Row]:
    """Judge every system on every case by the protocol, and write rows.csv, summary.json and summary.md.

    Rows go to ``rows.jsonl.partial`` one by one; a killed run that is called again with the same `identity` and seed
    does not predict them again. A failed case scores overlaps of 0 and the largest distances; no success counts worse.
    Surfaces need not be closed, since points are compared.

    Args:
        cases: as `middle_cases` gives them.
        systems: name -> predictor, predictors by organ, or a ceiling.
        out: folder of the results.
        seed: given to every predictor.
        identity: what is judged (fingerprints of data, base and adapter): rows of another identity are not kept.
        options: what the summary says beside the figures.
        progress: called after each row.
        workers: as `evaluate` has them.

    Returns:
        the rows, in the order of cases, then systems; their scores are POINT_METRICS and the ceilings.

    Raises:
        ValueError: what `check_judged` refuses, or a folder with rows of another evaluation.
        OSError: the results cannot be written, or a worker was killed.
    """
    check_judged(cases, systems, workers)
    check_vacant(out / "rows.csv", lambda names: names == POINT_COLUMNS)
    journal = Journal(out / "rows.jsonl.partial", f"{PROTOCOL} {identity} seed={seed}")
    known = {row.key: row for row in journal.rows}
    jobs = missing_jobs(cases, systems, seed, known)
    clock = Clock(len(cases) * len(systems), sum(len(names) for _, names in jobs), progress)
    for row in judged_rows([[job] for job in jobs], partial(_judged, cases, systems, seed), workers):
        journal.add(row)
        known[row.key] = row
        clock.tick()
    rows = [known[(*case.key, name, seed)] for case in cases for name in systems]
    write_point_rows(out / "rows.csv", rows)
    write_point_summary(out, rows, PROTOCOL, options)
    journal.path.unlink()
    return rows


def _judged(cases: Sequence[Case], systems: Mapping[str, System], seed: int, job: Job) -> Iterator[Row]:
    """The rows of one case, each as it is ready."""
    number, names = job
    case, material = cases[number], cases[number].load()
    shape = _Shape(material.truth.mesh)
    for name in names:
        system = systems[name]
        yield _judge(case, material, shape, name, system[case.organ] if isinstance(system, Mapping) else system, seed)


def _judge(case: Case, material: Material, shape: _Shape, name: str, system: Predictor | Ceiling, seed: int) -> Row:
    peak = PeakMemory()

    def predict() -> Mesh:
        with peak:
            return mesh_of(answer(system, material, seed))

    tried = attempt(predict, shape.scores)
    scores = tried.scores or {metric: column.worst for metric, column in POINT_METRICS.items()}
    ceilings = {ceiling_of(metric): value for metric, value in shape.ceiling.items()}
    return Row(
        *(case.case, case.patient, case.organ, case.plane, case.slice_kind, case.slice_index),
        name,
        seed,
        tried.scores is None,
        tried.reason,
        round(tried.seconds, 3),
        {column: round(value, _DIGITS) for column, value in {**scores, **ceilings}.items()},
        None if peak.mib is None else round(peak.mib, 1),
        round(material.slice_position, 3),
    )
