"""Results: what an evaluation left in its folder, read back for the report."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sam3d_objects.arrays import AnyArray
from sam3d_objects.files import read_json

_CASE_COLUMNS = ("case", "organ", "plane", "slice_kind", "slice_index")
_KINDS = {"largest": "largest slice of the organ", "random": "random slice", "middle": "middle slice"}


@dataclass(frozen=True)
class Row:
    """One line of rows.csv: the columns that the report shows.

    Args:
        case, patient, organ, plane, slice_kind, slice_index, system: whose and which.
        failed, reason: whether there was no prediction that can be scored, and why.
        seconds: that the prediction took.
        scores: metric name -> number.
        slice_position: where the slice lies in the organ's extent, from 0 to 1; None where the rows do not say.
    """

    case: str
    patient: str
    organ: str
    plane: str
    slice_kind: str
    slice_index: int
    system: str
    failed: bool
    reason: str
    seconds: float
    scores: Mapping[str, float]
    slice_position: float | None = None

    @property
    def case_key(self) -> tuple[str, ...]:
        """What rows of two systems are paired by."""
        return (self.case, self.organ, self.plane, self.slice_kind, str(self.slice_index))

    @property
    def title(self) -> str:
        """The case in words."""
        kind = _KINDS.get(self.slice_kind, self.slice_kind)
        return f"{self.case}, {self.organ}, {self.plane} slice {self.slice_index} ({kind})"


@dataclass(frozen=True)
class Results:
    """An evaluation's folder.

    Args:
        folder: where it is.
        rows: of rows.csv, in order.
        summary: summary.json.
        artefacts: (case, organ, plane, slice_kind, slice_index, system) as text -> artefact file.
        truths: the same key -> file of the organ's true surface.
        histories: stage (empty where there is one only) -> a line an epoch, of the training run's history.json.
        calibration: `levels` (stated), `within` (found) and `n`; None where nothing was calibrated.
    """

    folder: Path
    rows: tuple[Row, ...]
    summary: Mapping[str, Any]
    artefacts: Mapping[tuple[str, ...], Path]
    truths: Mapping[tuple[str, ...], Path] = field(default_factory=dict)
    histories: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    calibration: Mapping[str, Any] | None = None

    @property
    def reference(self) -> str:
        """The system that the report is about."""
        return str(self.summary["reference"])

    @property
    def systems(self) -> list[str]:
        """All systems, in the order of the table."""
        return list(self.summary["systems"])

    def of_system(self, system: str) -> list[Row]:
        """The rows of one system."""
        return [row for row in self.rows if row.system == system]

    def artefact(self, row: Row) -> dict[str, AnyArray] | None:
        """A row's pictures and mesh; None where none was saved."""
        return _arrays(self.artefacts.get((*row.case_key, row.system)))

    def truth(self, row: Row) -> dict[str, AnyArray] | None:
        """The true surface of a row's organ, `vertices` (V, 3) mm and `faces` (F, 3); None where none was saved."""
        return _arrays(self.truths.get((*row.case_key, row.system)))


def _arrays(path: Path | None) -> dict[str, AnyArray] | None:
    if path is None:
        return None
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def read_results(folder: Path) -> Results:
    """Read rows.csv, summary.json and, where they are, artefacts/index.json, history*.json and calibration.json.

    Raises:
        ValueError: the folder holds no finished evaluation, or a file is not what it should be.
    """
    for name in ("rows.csv", "summary.json"):
        if not (folder / name).is_file():
            raise ValueError(f"{folder} holds no finished evaluation: {name} is missing; run the evaluation first")
    summary = read_json(folder / "summary.json")
    index = folder / "artefacts" / "index.json"
    artefacts, truths = {}, {}
    for entry in read_json(index) if index.is_file() else []:
        key = (*(str(entry[name]) for name in _CASE_COLUMNS), str(entry["system"]))
        artefacts[key] = folder / "artefacts" / entry["file"]
        if "truth" in entry:
            truths[key] = folder / "artefacts" / entry["truth"]
    calibration = folder / "calibration.json"
    return Results(
        folder,
        tuple(_rows(folder / "rows.csv", list(summary["metrics"]))),
        summary,
        artefacts,
        truths,
        {
            path.stem.removeprefix("history").strip("_"): read_json(path)
            for path in sorted(folder.glob("history*.json"))
        },
        read_json(calibration) if calibration.is_file() else None,
    )


def _rows(path: Path, metrics: list[str]) -> list[Row]:
    with open(path, newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        try:
            return [_row(cells, metrics) for cells in reader]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: line {reader.line_num} is not a row of an evaluation: {error}") from error


def _row(cells: Mapping[str, str], metrics: list[str]) -> Row:
    return Row(
        case=cells["case"],
        patient=cells["patient"],
        organ=cells["organ"],
        plane=cells["plane"],
        slice_kind=cells["slice_kind"],
        slice_index=int(cells["slice_index"]),
        system=cells["system"],
        failed=cells["failed"] == "true",
        reason=cells["reason"],
        seconds=float(cells["seconds"]),
        scores={name: float(cells[name]) for name in metrics},
        slice_position=float(cells["slice_position"]) if cells.get("slice_position") else None,
    )
