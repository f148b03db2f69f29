"""summary.json has the keys of the design; summary.md shows the best in bold and says what is synthetic."""

import json
from pathlib import Path

import pytest

from sam3d_objects.evaluation import METRICS, Row, SummaryOptions, markdown_of, summary_of, write_summary

GOOD = {"base": 0.4, "adapted": 0.8, "extrusion": 0.5}


def rows(patients: int = 3) -> list[Row]:
    found = []
    for number in range(patients):
        for plane in ("axial", "coronal"):
            for system, dice in GOOD.items():
                failed = system == "base" and number == 0
                scores = {name: 1.0 - dice for name in METRICS} | {"dice": 0.0 if failed else dice + 0.01 * number}
                found.append(
                    Row(
                        *(f"c{number}", f"p{number}", "spleen", plane, "largest", 4, system, 0, failed, "", 0.1),
                        scores,
                    )
                )
    return found


def test_the_keys_of_the_design(tmp_path: Path) -> None:
    written = write_summary(tmp_path, rows())
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary == written
    assert list(summary["systems"]) == ["base", "adapted", "extrusion"]
    base = summary["systems"]["base"]
    assert set(base) == {"n", "failures", *METRICS}
    assert (base["n"], base["failures"]) == (6, 2)
    assert set(base["dice"]) == {"mean", "median", "ci_low", "ci_high"}
    assert base["dice"]["mean"] == pytest.approx((0 + 0.41 + 0.42) / 3)
    assert summary["planes"]["axial"]["base"]["n"] == 3
    assert summary["organs"]["spleen"]["adapted"]["n"] == 6
    assert summary["reference"] == "adapted"
    assert (summary["patients"], summary["cases"]) == (3, 6)


def test_the_reference_is_paired_with_every_other_system() -> None:
    paired = summary_of(rows())["paired"]
    assert {(pair["first"], pair["second"]) for pair in paired} == {("adapted", "base"), ("adapted", "extrusion")}
    against = next(pair for pair in paired if pair["second"] == "extrusion" and pair["metric"] == "dice")
    assert against["mean_difference"] == pytest.approx(0.3)
    assert (against["n"], against["patients"]) == (6, 3)


def test_one_patient_gives_null_intervals(tmp_path: Path) -> None:
    summary = write_summary(tmp_path, rows(1))
    assert summary["systems"]["adapted"]["dice"]["ci_low"] is None
    assert "null" in (tmp_path / "summary.json").read_text()
    assert "| adapted | 2 | 0 | **0.800** |" in (tmp_path / "summary.md").read_text()


def test_the_table_for_people() -> None:
    text = markdown_of(summary_of(rows(), SummaryOptions(notes=("margin 3 mm",))))
    assert "| adapted | 6 | 0 | **0.810** (0.800 to 0.820) |" in text
    assert "| base | 6 | 2 | 0.277" in text
    assert "not for diagnosis" in text and "- margin 3 mm" in text
    assert "SYNTHETIC" not in text


def test_synthetic_scans_are_called_so() -> None:
    assert "SYNTHETIC" in markdown_of(summary_of(rows(), SummaryOptions(synthetic=True)))


def test_less_is_better_for_distances() -> None:
    text = markdown_of(summary_of(rows()))
    heading = text.index("## HD95 (mm) by plane")
    assert "| adapted | **0.20** (0.20 to 0.20) |" in text[heading : text.index("##", heading + 3)]


def test_what_cannot_be_summarised() -> None:
    with pytest.raises(ValueError, match="nothing was evaluated"):
        summary_of([])
    with pytest.raises(ValueError, match="Did you mean 'adapted'"):
        summary_of(rows(), SummaryOptions(reference="adaptd"))
