"""What a reader new to the project needs: the task, what words and colours mean, and which way is up."""

import re
from pathlib import Path

import numpy as np
import pytest

from sam3d_objects.evaluation import SummaryOptions, read_rows, write_rows, write_summary
from sam3d_objects.report import read_results, write_report
from sam3d_objects.report.cuts import case_cuts
from sam3d_objects.report.intervals import interval_chart
from sam3d_objects.report.results import Row
from sam3d_objects.report.verdict import task_sentence
from sam3d_objects.volume import PLANES, Volume, voxel_plane
from tests.report.folders import evaluated_folder
from tests.report.pages import Page


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return evaluated_folder(tmp_path_factory.mktemp("evaluated"))


@pytest.fixture(scope="module")
def page(evaluated: Path) -> Page:
    return Page(write_report(evaluated).html.read_text(encoding="utf-8"))


def test_the_task_is_said_before_the_verdict(evaluated: Path, page: Page, tmp_path: Path) -> None:
    said = (
        "From one slice with the organ marked, the adapted model draws the whole organ in 3D. Judged on 6 slices of 3 "
        "patients (structure in the data: ball); intervals in brackets are 95 %, over patients."
    )
    assert page.text.index(said) < page.text.index("Verdict")
    # Only a summary that says so makes them patients kept out of training.
    rows = read_rows(evaluated / "rows.csv")
    write_rows(tmp_path / "rows.csv", rows)
    write_summary(tmp_path, rows, SummaryOptions(unseen=True))
    assert "of 3 test patients who were kept out of training (" in task_sentence(read_results(tmp_path))


def test_no_reassurance_in_the_tiles(evaluated: Path, page: Page) -> None:
    results = read_results(evaluated)
    worst = min(row.scores["dice"] for row in results.of_system("adapted") if not row.failed)
    tile = f"no usable mesh 3 of 6 no surface, or one that cannot be scored; worst of the others: Dice {worst:.2f}"
    assert tile in page.text
    assert "95 % of the surface lies nearer than this" in page.text
    assert "mean size of the error; too large or too small" in page.text


def test_words_are_explained_where_they_are_first_used(page: Page) -> None:
    assert "against the base model the model before any training on these data" in page.text
    systems = page.text.index("Systems side by side")
    assert page.text.index("mean shape the mean of the training organs", systems) < page.text.index("Dice by plane")


def test_every_case_has_its_legend_and_its_rivals(evaluated: Path, page: Page) -> None:
    cases = page.text[page.text.index("Cases of the adapted model") : page.text.index("All figures")]
    assert cases.count("mask that was given") == cases.count("yellow frame: the slice that was given") == 6
    assert cases.count("prediction too small") == 3  # the failed three have nothing to colour
    assert cases.count("Dice of the base model") == cases.count("Dice of the extrusion") == 3
    assert "(largest slice of the organ)" in cases and "(largest)" not in cases


@pytest.mark.parametrize("metric", ["dice", "hd95_mm"])
def test_markers_on_an_end_have_room(evaluated: Path, metric: str) -> None:
    chart = interval_chart(read_results(evaluated), metric)
    low, high = chart.layout["xaxis"]["range"]
    ends = [trace["x"][0] + trace["error_x"]["array"][0] for trace in chart.data]
    assert low < 0 and high > 1.03 * max(ends)
    assert chart.layout["xaxis"]["side"] == "top" and chart.layout["xaxis"]["tickangle"] == 0


@pytest.mark.parametrize("plane", PLANES)
def test_letters_stand_where_the_display_puts_the_patient(plane: str) -> None:
    # A scan stored left to right, back to front and upside down: the display turns it, so the letters stay.
    volume = Volume(np.zeros((4, 5, 6), np.float32), np.diag([-1.0, 1.0, -2.0, 1.0]))
    down, right = voxel_plane(volume, plane, 1).affine[:3, :2].T
    found = letters(plane)
    for ends, step in ((("top", "bottom"), down), (("left", "right"), right)):
        axis = int(np.abs(step).argmax())
        pair = ("LR", "PA", "IS")[axis][:: int(np.sign(step[axis]))]  # where the step comes from, and goes to
        assert "".join(found[end] for end in ends) == pair


def test_an_oblique_plane_has_no_letters() -> None:
    assert letters("oblique") == {}


def letters(plane: str) -> dict[str, str]:
    """Side of the given slice's picture -> letter."""
    artefact = {
        "slice_image": np.zeros((10, 10), np.uint8),
        "slice_mask": np.zeros((10, 10), bool),
        "slice_spacing_mm": np.ones(2),
        "views": np.array([], dtype=str),
    }
    row = Row("a", "a", "ball", plane, "largest", 1, "adapted", False, "", 1.0, {})
    found = re.findall(r'<text x="([\d.]+)" y="([\d.]+)"[^>]*>(\w)</text>', case_cuts(row, artefact)[0].svg)
    sides = {}
    for x, y, letter in found:
        across, down = float(x) - 5, float(y) - 5
        side = ("left", "right")[across > 0] if abs(across) > abs(down) else ("top", "bottom")[down > 0]
        sides[side] = letter
    assert len(sides) == len(found)
    return sides
