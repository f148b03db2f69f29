"""Two evaluations are compared on the same cases alone."""

from pathlib import Path

import pytest

from sam3d_objects.cli.compare import compare
from sam3d_objects.evaluation import METRICS, Row, write_rows


def written(folder: Path, dice: dict[str, float], patients: int = 3) -> Path:
    rows = []
    for number in range(patients):
        for system, value in dice.items():
            scores = {name: 1.0 for name in METRICS} | {"dice": value + 0.01 * number}
            rows.append(Row(f"c{number}", f"p{number}", "o", "axial", "largest", 3, system, 0, False, "", 0.1, scores))
    write_rows(folder / "rows.csv", rows)
    return folder


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    first = written(tmp_path / "one", {"adapted": 0.8, "base": 0.4, "extrusion": 0.5})
    return first, written(tmp_path / "two", {"base": 0.4, "adapted": 0.7, "direct": 0.75})


def test_each_system_that_both_have(folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    first, second = folders
    compare(first, second)
    text = capsys.readouterr().out
    assert "3 cases of 3 patients" in text
    assert f"| adapted of {first} - adapted of {second} | +0.100 (+0.100 to +0.100) | +0.00 (" in text
    assert f"| base of {first} - base of {second} | +0.000 (" in text
    assert "extrusion" not in text and "direct" not in text


def test_two_names(folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    compare(*folders, system="extrusion", against="direct")
    assert "| -0.250 (-0.250 to -0.250) |" in capsys.readouterr().out


def test_what_cannot_be_compared(folders: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no rows of direct"):
        compare(*folders, system="direct")
    with pytest.raises(ValueError, match="--against base needs --system"):
        compare(*folders, against="base")
    with pytest.raises(ValueError, match="none in common; say which"):
        compare(folders[0], written(tmp_path / "three", {"direct": 0.1}))
    with pytest.raises(ValueError, match=r"\(3 cases\) and .* \(2 cases\) were not judged on the same cases, 2 are"):
        compare(folders[0], written(tmp_path / "fewer", {"base": 0.1}, patients=2))
    with pytest.raises(FileNotFoundError):
        compare(folders[0], tmp_path)
