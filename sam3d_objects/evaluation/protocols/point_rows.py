"""Point rows: rows of point scores with the ceiling of each shape beside them, in CSV and in a journal that resumes."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from sam3d_objects.evaluation.protocols.point_metrics import POINT_METRICS
from sam3d_objects.evaluation.rows import IDENTITY_COLUMNS, Row
from sam3d_objects.files import atomic_path


def ceiling_of(metric: str) -> str:
    """The name under which a row's scores hold the ceiling of a metric."""
    return f"{metric}_ceiling"


POINT_COLUMNS = (*IDENTITY_COLUMNS, *(column for name in POINT_METRICS for column in (name, ceiling_of(name))))
"""The columns of the CSV: who and what, then each metric and the ceiling of the row's shape."""


def write_point_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write rows whose scores are POINT_METRICS and their ceilings as CSV, atomically."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(POINT_COLUMNS)
    for row in rows:
        cells = {name: getattr(row, name) for name in IDENTITY_COLUMNS} | {"failed": str(row.failed).lower()}
        writer.writerow({**cells, **row.scores}[column] for column in POINT_COLUMNS)
    with atomic_path(path) as temporary:
        temporary.write_text(stream.getvalue(), encoding="utf-8")


class Journal:
    """Rows on disk one by one, a line of JSON each, so that what was killed goes on where it was.

    The first line names what is judged; rows of anything else are dropped. `rows` holds what was there and what was
    added.

    Raises:
        ValueError: a whole line is not a row; the message names the file.
    """

    def __init__(self, path: Path, identity: str) -> None:
        self.path = path
        header = json.dumps({"identity": identity})
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True) if path.exists() else []
        # A line that a kill cut off has no line break: it is done again.
        whole = [line for line in lines if line.endswith("\n")]
        if whole[:1] != [f"{header}\n"]:
            whole = [f"{header}\n"]
        try:
            self.rows = [Row(**json.loads(line)) for line in whole[1:]]
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path} holds a line that is not a row: {error}; remove it to begin anew") from error
        with atomic_path(path) as temporary:
            temporary.write_text("".join(whole), encoding="utf-8")

    def add(self, row: Row) -> None:
        """Append a row; it is on disk when this returns."""
        with open(self.path, "a", encoding="utf-8") as stream:
            stream.write(json.dumps(asdict(row)) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        self.rows.append(row)
