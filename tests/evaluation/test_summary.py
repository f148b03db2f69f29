"""summary.json has the keys of the design; summary.md shows the best in bold and says what is synthetic."""

import json
from dataclasses import replace
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


def test_a_ceiling_is_never_taken_for_a_method() -> None:
    ceiling = [
        replace(row, system="ceiling_mesh", scores={**row.scores, "dice": 0.99, "hd95_mm": 0.0})
        for row in rows()
        if row.system == "extrusion"
    ]
    summary = summary_of([*ceiling, *(row for row in rows() if row.system != "adapted")])
    assert summary["ceilings"] == ["ceiling_mesh"] and summary["reference"] == "base"
    text = markdown_of(summary)
    assert "| ceiling_mesh (knows the truth) | 6 | 0 | 0.990 (" in text and "**0.99" not in text
    assert "**0.510** (0.500 to 0.520)" in text, "extrusion is the best of the methods"
    assert "are ceilings, not methods" in text and "are ceilings" not in markdown_of(summary_of(rows()))


def test_shape_alone_has_a_table_of_its_own() -> None:
    summary = summary_of(rows())
    assert [name for name, metric in summary["metrics"].items() if metric["shape_only"]] == [
        name for name in METRICS if name.startswith("shape_")
    ]
    first, shape = markdown_of(summary).split("## Shape alone")
    assert "Shape-only Dice" in shape and "Shape-only" not in first


def test_medians_quartiles_and_costs() -> None:
    slow = [
        replace(row, seconds=float(number), peak_mib=100.0 + number)
        for number, row in enumerate(row for row in rows() if row.system == "adapted")
    ]
    summary = summary_of([*slow, *(row for row in rows() if row.system == "base")])
    assert summary["costs"] == {
        "adapted": {"seconds_median": 2.5, "peak_mib": 105.0},
        "base": {"seconds_median": 0.1, "peak_mib": None},
    }
    # Dice .80 .80 .81 .81 .82 .82: the quartiles lie a quarter from one to the next, as numpy has them.
    assert summary["quartiles"]["adapted"]["dice"] == pytest.approx([0.8025, 0.8175])
    assert "| adapted | 0.810 (0.802 to 0.818) |" in markdown_of(summary)


def test_rows_of_an_older_file_lack_what_came_later() -> None:
    older = [replace(row, scores={"dice": row.scores["dice"], "hd95_mm": 1.0, "iou": 0.5}) for row in rows()]
    assert list(summary_of(older)["metrics"]) == ["dice", "iou", "hd95_mm"]
    assert "Shape alone" not in markdown_of(summary_of(older))


def test_what_cannot_be_summarised() -> None:
    with pytest.raises(ValueError, match="nothing was evaluated"):
        summary_of([])
    with pytest.raises(ValueError, match="Did you mean 'adapted'"):
        summary_of(rows(), SummaryOptions(reference="adaptd"))
