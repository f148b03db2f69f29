"""A folder scored by the published protocol gets a page of its own, each score beside the ceiling of its shape."""

from pathlib import Path

import pytest

from sam3d_objects.evaluation import System
from sam3d_objects.evaluation.ceilings import CEILINGS
from sam3d_objects.evaluation.protocols import run_protocol
from sam3d_objects.report import write_report
from tests.evaluation.solids import ball_case
from tests.report.folders import radius
from tests.report.pages import Page


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("points")
    run_protocol([ball_case("case 0", kind="middle")], {"adapted": radius(6.0), "extrusion": radius(9.0)}, out, 0)
    return out


def test_scores_stand_beside_their_ceilings(folder: Path) -> None:
    files = write_report(folder)
    page = Page(files.html.read_text(encoding="utf-8"))
    assert (
        "By slice3d-2602, the adapted model reaches F1@0.01 0." in page.text and "where the ceiling is 0." in page.text
    )
    assert "0 of 1 failed" in page.text and "say nothing about where an organ is" in page.text
    assert "ceiling: the truth, sampled again" in page.text
    assert [len(plot["data"]) for plot in page.plots.values()] == [3, 3]  # the ceiling and two systems
    text = files.markdown.read_text(encoding="utf-8")
    assert text.count("| case ") == 1 and "| ceiling: the truth, sampled again |" in text


def test_ceilings_are_not_ranked_among_the_systems(tmp_path: Path) -> None:
    systems: dict[str, System] = {
        "adapted": radius(6.0),
        "extrusion": radius(9.0),
        "ceiling_grid32": CEILINGS["ceiling_grid32"],
    }
    run_protocol([ball_case("case 0", radius_mm=2.0, kind="middle")], systems, tmp_path, 0)
    page = Page(write_report(tmp_path).html.read_text(encoding="utf-8"))
    for plot in page.plots.values():
        assert [str(trace["name"]).startswith("ceiling") for trace in plot["data"]] == [True, True, False, False]


def test_rows_must_be_there(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text((folder / "summary.json").read_text())
    with pytest.raises(ValueError, match=r"rows\.csv is missing"):
        write_report(tmp_path)
