"""Rows survive their CSV file whole, and a file that was cut off gives what it has."""

from dataclasses import replace
from pathlib import Path

import pytest

from sam3d_objects.evaluation import COLUMNS, METRICS, Row, read_rows, write_rows
from sam3d_objects.evaluation.rows import PartialRows, metrics_of, one_line

ROW = Row(
    *("s1", "p1", "liver, left lobe", "axial", "largest", 12, "adapted", 0, False, "", 0.125),
    {name: 1 / (number + 3) for number, name in enumerate(METRICS)},
)
FAILED = replace(
    ROW, system="base", failed=True, reason='ValueError: "no" mesh, none', peak_mib=812.5, slice_position=0.25
)


DESIGN = (
    "case,patient,organ,plane,slice_kind,slice_index,system,seed,failed,reason,seconds,dice,iou,hd95_mm,assd_mm,"
    "chamfer_mm,surface_dice_1mm,surface_dice_2mm,volume_error_percent,slice_dice"
)
LATER = {"peak_mib", "slice_position", "volume_error_ml", "shape_dice", "shape_hd95_mm", "shape_assd_mm"}


def test_the_columns_are_those_of_the_design_and_what_came_later() -> None:
    assert [name for name in COLUMNS if name not in LATER] == DESIGN.split(",")
    assert set(COLUMNS) >= LATER
    assert COLUMNS[10:13] == ("seconds", "peak_mib", "slice_position"), "at the end of their group"


def test_a_file_of_the_first_version_is_read(tmp_path: Path) -> None:
    cells = [*ROW.cells()[:11], *(repr(ROW.scores[name]) for name in DESIGN.split(",")[11:])]
    cells[2] = "liver"
    (tmp_path / "rows.csv").write_text(f"{DESIGN}\n{','.join(cells)}\n")
    (row,) = read_rows(tmp_path / "rows.csv")
    assert row.key == (*ROW.key[:1], "liver", *ROW.key[2:]) and row.peak_mib is None and row.slice_position is None
    assert metrics_of([row]) == DESIGN.split(",")[11:] == metrics_of([ROW, row])
    (tmp_path / "rows.csv").write_text(DESIGN.replace(",dice", "") + "\n")
    with pytest.raises(ValueError, match="expected the columns"):
        read_rows(tmp_path / "rows.csv")


def test_rows_come_back_equal(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.csv", [ROW, FAILED])
    assert read_rows(tmp_path / "rows.csv") == [ROW, FAILED]
    assert ",true," in (tmp_path / "rows.csv").read_text().splitlines()[2]


def test_a_reason_fits_a_line() -> None:
    assert one_line("ValueError: a\n  b\tc\u2028d\r\n") == "ValueError: a b c d"
    assert one_line("bad \ud800 surrogate") == "bad ? surrogate"


@pytest.mark.parametrize("cell", ["true,maybe", "0,x"])
def test_a_damaged_file_is_named(tmp_path: Path, cell: str) -> None:
    path = tmp_path / "rows.csv"
    write_rows(path, [ROW])
    good, bad = ("false", "maybe") if "maybe" in cell else (",12,", ",x,")
    path.write_text(path.read_text().replace(good, bad))
    with pytest.raises(ValueError, match=r"rows\.csv: line 2 is not a row"):
        read_rows(path)


def test_another_header_is_named(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="expected the columns"):
        read_rows(tmp_path / "rows.csv")


class TestPartial:
    def test_goes_on_where_it_was(self, tmp_path: Path) -> None:
        path = tmp_path / "rows.csv.partial"
        with PartialRows(path, "one") as partial:
            partial.add(ROW)
        with PartialRows(path, "one") as partial:
            assert partial.rows == [ROW]
            partial.add(FAILED)
        with PartialRows(path, "one") as partial:
            assert partial.rows == [ROW, FAILED]

    def test_a_line_that_was_cut_off_is_dropped(self, tmp_path: Path) -> None:
        path = tmp_path / "rows.csv.partial"
        with PartialRows(path, "one") as partial:
            partial.add(ROW)
            partial.add(FAILED)
        text = path.read_text()
        for cut in range(len(text) - 1, text.rindex("s1,"), -7):
            path.write_text(text[:cut])
            with PartialRows(path, "one") as partial:
                assert partial.rows == [ROW]
                partial.add(FAILED)
            assert path.read_text() == text

    def test_a_header_that_was_cut_off_starts_anew(self, tmp_path: Path) -> None:
        path = tmp_path / "rows.csv.partial"
        path.write_text("# on")
        with PartialRows(path, "one") as partial:
            assert partial.rows == []

    def test_rows_of_another_evaluation_are_not_mixed_in(self, tmp_path: Path) -> None:
        path = tmp_path / "rows.csv.partial"
        with PartialRows(path, "one") as partial:
            partial.add(ROW)
        with PartialRows(path, "two") as partial:
            assert partial.rows == []
