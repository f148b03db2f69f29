"""Rows: one scored case of one system, and the CSV files that hold them, finished or cut off."""

import csv
import io
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from sam3d_objects.evaluation.metrics import METRICS
from sam3d_objects.files import atomic_path

IDENTITY_COLUMNS = (
    "case",
    "patient",
    "organ",
    "plane",
    "slice_kind",
    "slice_index",
    "system",
    "seed",
    "failed",
    "reason",
    "seconds",
    "peak_mib",
    "slice_position",
)
COLUMNS = (*IDENTITY_COLUMNS, *METRICS)
_MAY_BE_EMPTY = ("peak_mib", "slice_position")
_FIRST_METRICS = ("dice", "iou", "hd95_mm", "assd_mm", "chamfer_mm", "surface_dice_1mm", "surface_dice_2mm")
# Columns of the first version; a file may lack the others.
_REQUIRED = {*IDENTITY_COLUMNS, *_FIRST_METRICS, "volume_error_percent", "slice_dice"} - set(_MAY_BE_EMPTY)

RowKey = tuple[str, str, str, str, int, str, int]


@dataclass(frozen=True)
class Row:
    """One case of one system.

    Args:
        case, patient, organ, plane, slice_kind: what was judged; slice_kind is `largest` or `random`.
        slice_index: native voxel index along the plane's normal.
        system: who predicted.
        seed: what the predictor was given.
        failed: whether there was no prediction that can be scored.
        reason: exception type and message of a failure, on one line; else what is odd about a prediction that was
            scored, such as one that intersects itself; most often empty.
        seconds: time that the prediction took, without the scoring.
        scores: metric name -> number, every metric, all finite; rows of an older file lack what is new.
        peak_mib: largest memory of the process while it predicted, MiB, as `PeakMemory` has it; None where unknown.
        slice_position: where the slice lies in the organ's extent, 0 to 1, as `Material` has it; None where unknown.
    """

    case: str
    patient: str
    organ: str
    plane: str
    slice_kind: str
    slice_index: int
    system: str
    seed: int
    failed: bool
    reason: str
    seconds: float
    scores: Mapping[str, float]
    peak_mib: float | None = None
    slice_position: float | None = None

    @property
    def key(self) -> RowKey:
        """What a row is recognised by when an evaluation is resumed."""
        return (*self.case_key, self.system, self.seed)

    @property
    def case_key(self) -> tuple[str, str, str, str, int]:
        """What rows of two systems are paired by."""
        return (self.case, self.organ, self.plane, self.slice_kind, self.slice_index)

    def cells(self) -> list[str]:
        """The row as text, in the order of COLUMNS; numbers keep every digit, so that reading gives the same row."""
        identity = {name: str(getattr(self, name)) for name in IDENTITY_COLUMNS}
        identity["failed"] = "true" if self.failed else "false"
        identity |= {name: "" for name in _MAY_BE_EMPTY if getattr(self, name) is None}
        return [*identity.values(), *(repr(float(self.scores[name])) for name in METRICS)]

    @classmethod
    def from_cells(cls, cells: Mapping[str, str]) -> "Row":
        """The row of one CSV record. Raises KeyError or ValueError when a cell is missing or not what it should be."""
        if cells["failed"] not in ("true", "false"):
            raise ValueError(f"expected failed to be true or false, got {cells['failed']!r}")
        return cls(
            cells["case"],
            cells["patient"],
            cells["organ"],
            cells["plane"],
            cells["slice_kind"],
            int(cells["slice_index"]),
            cells["system"],
            int(cells["seed"]),
            cells["failed"] == "true",
            cells["reason"],
            float(cells["seconds"]),
            {name: float(cells[name]) for name in METRICS if name in cells},
            *(float(cells[name]) if cells.get(name) else None for name in _MAY_BE_EMPTY),
        )


def metrics_of(rows: Iterable[Row]) -> list[str]:
    """The metrics that all rows have, in the order of the columns; rows of an older file have fewer."""
    common = set(METRICS)
    for row in rows:
        common &= row.scores.keys()
    return [name for name in METRICS if name in common]


def one_line(text: str) -> str:
    """`text` on one line and in UTF-8: white space becomes single blanks, what cannot be encoded a ``?``."""
    return " ".join(text.encode("utf-8", "replace").decode("utf-8").split())


def _line(cells: Iterable[str]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerow(cells)
    return stream.getvalue()


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write rows.csv, atomically: a header of COLUMNS and a line a row."""
    with atomic_path(path) as temporary:
        temporary.write_text(_line(COLUMNS) + "".join(_line(row.cells()) for row in rows), encoding="utf-8")


def read_rows(path: Path) -> list[Row]:
    """Read rows.csv.

    A file of an older version, which lacks columns that were added since, is read as well.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: another header, or a line that is not a row; the message names the file and the line.
    """
    return _parse(path, path.read_text(encoding="utf-8").splitlines())


def is_header(names: tuple[str, ...]) -> bool:
    """Whether a file's column names are those of rows, of this version or of an older one."""
    return names == tuple(name for name in COLUMNS if name in names or name in _REQUIRED)


def check_vacant(path: Path, own: Callable[[tuple[str, ...]], bool]) -> None:
    """Refuse to write over rows of another kind.

    Args:
        path: of a CSV file, which need not be there.
        own: whether column names are of the kind that is to be written.

    Raises:
        ValueError: the file has other columns.
    """
    if path.exists():
        with open(path, newline="", encoding="utf-8") as stream:
            found = tuple(next(csv.reader(stream), ()))
        if not own(found):
            raise ValueError(f"{path} holds rows of another kind of evaluation; take another folder for these")


def _parse(path: Path, lines: list[str]) -> list[Row]:
    reader = csv.DictReader(lines)
    header = tuple(reader.fieldnames or ())
    if not is_header(header):
        raise ValueError(f"{path}: expected the columns {list(COLUMNS)}, got {list(header)}")
    rows = []
    for cells in reader:
        try:
            rows.append(Row.from_cells(cells))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: line {reader.line_num} is not a row: {error}") from error
    return rows


class PartialRows:
    """The rows of an evaluation that is going on, appended one by one so that a killed one resumes.

    The first line of the file names what is evaluated (`identity`); rows of another evaluation are dropped, not mixed
    in. Use as a context manager; `rows` holds what was there and what was added.
    """

    def __init__(self, path: Path, identity: str) -> None:
        self.path = path
        self.rows: list[Row] = []
        header = f"# {one_line(identity)}\n{_line(COLUMNS)}"
        kept = header
        if path.exists():
            # A line that a kill cut off has no line break: it is done again.
            whole = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
            whole = [line for line in whole if line.endswith("\n")]
            if "".join(whole[:2]) == header:
                self.rows = _parse(path, whole[1:])
                kept = "".join(whole)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            temporary.write_text(kept, encoding="utf-8")
        self._stream = open(path, "a", encoding="utf-8")  # noqa: SIM115 - closed by __exit__

    def __enter__(self) -> "PartialRows":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()

    def add(self, row: Row) -> None:
        """Append a row; it is on disk when this returns."""
        self._stream.write(_line(row.cells()))
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self.rows.append(row)
