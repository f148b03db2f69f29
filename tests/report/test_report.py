"""The report says what the rows say, stands alone, hides no failure, and takes no ceiling for a rival."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import plotly.graph_objects
import pytest

from sam3d_objects.evaluation import Row, SummaryOptions, evaluate, read_rows, write_rows, write_summary
from sam3d_objects.evaluation.predictor import Stated
from sam3d_objects.files import write_json
from sam3d_objects.mesh import Mesh
from sam3d_objects.report import ReportFiles, best_baseline, claims, read_results, write_report
from sam3d_objects.report.tables import is_best
from sam3d_objects.report.verdict import hardest_sentence
from sam3d_objects.volume import SliceInput
from tests.evaluation.solids import ball_case, ball_mesh
from tests.report.folders import evaluated_folder
from tests.report.pages import Page


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return evaluated_folder(tmp_path_factory.mktemp("evaluated"))


@pytest.fixture(scope="module")
def files(evaluated: Path) -> ReportFiles:
    return write_report(evaluated)


@pytest.fixture(scope="module")
def page(files: ReportFiles) -> Page:
    return Page(files.html.read_text(encoding="utf-8"))


def rescored(rows: list[Row], dice: Callable[[str, int], float]) -> list[Row]:
    """The same rows with a Dice by system and patient, none failed."""
    return [
        replace(row, failed=False, reason="", scores={**row.scores, "dice": dice(row.system, int(row.patient[6]))})
        for row in rows
    ]


def test_the_report_stands_alone(files: ReportFiles, page: Page) -> None:
    assert not {"link", "iframe", "object", "embed", "a"} & {tag for tag, _ in page.tags}
    assert all("src" not in attributes for tag, attributes in page.tags if tag == "script")
    policies = [str(attributes["content"]) for tag, attributes in page.tags if "http-equiv" in attributes]
    assert len(policies) == 1 and policies[0].startswith("default-src 'none'") and "http" not in policies[0]
    sources = [
        attributes.get("src") or attributes.get("href") for tag, attributes in page.tags if tag in ("img", "image")
    ]
    assert len(sources) >= 20 and all(str(source).startswith("data:image/") for source in sources)
    assert ("html", {"lang": "en"}) in page.tags
    assert files.html.stat().st_size < 15e6
    html = files.html.read_text(encoding="utf-8")
    assert "<no>" not in html and "&lt;no&gt;" in html


def test_every_picture_has_words(page: Page) -> None:
    pictures = [attributes for tag, attributes in page.tags if attributes.get("role") == "img"]
    assert all(len(str(picture["aria-label"])) > 30 for picture in pictures)
    assert all(len(str(attributes["alt"])) > 30 for tag, attributes in page.tags if tag == "img")
    assert {str(picture.get("id")) for picture in pictures} >= set(page.plots)


def test_plotly_knows_all_that_it_is_told(page: Page) -> None:
    assert len(page.plots) >= 6 + 6  # plots, then a view of each case of the gallery
    for plot in page.plots.values():
        plotly.graph_objects.Figure(plot)  # raises on a property that does not exist


def test_views_show_both_surfaces_by_distance(page: Page) -> None:
    traces = page.plots["solid-0"]["data"]
    coloured = [trace for trace in traces if "intensity" in trace]
    assert [trace["scene"] for trace in coloured] == ["scene", "scene2"]
    assert len({trace["cmax"] for trace in coloured}) == 1


def test_the_verdict_comes_first(page: Page) -> None:
    text = page.text
    order = [
        "Research use only, not for diagnosis",
        "Verdict",
        "The adapted model",
        "Systems side by side",
        "Dice by plane",
        "Dice against slice position",
        "Cases of the adapted model",
        "All figures",
        "How this was measured",
    ]
    assert [text.index(part) for part in order] == sorted(text.index(part) for part in order)
    assert "Failed cases, counted as overlap 0 and the diagonal of the scan: 3 of 6 (adapted)." in text
    assert "hardest from coronal ones (0.000)" in text
    assert "margin 3 mm & no more" in text
    assert "SYNTHETIC" not in text
    assert "Calibration" not in text and "Training loss" not in text


def test_the_gallery_shows_the_worst_and_the_failed(page: Page) -> None:
    alts = [str(attributes["alt"]) for tag, attributes in page.tags if tag == "img"]
    headings = [word for word in page.words if word in ("Best", "Median", "Worst", "Failed")]
    assert headings == ["Best", "Median", "Worst", "Failed", "Failed", "Failed"]
    assert sum("there is no prediction" in alt for alt in alts) == 3
    assert any("RuntimeError: <no> mesh" in word for word in page.words)


@pytest.mark.parametrize(
    ("dice", "outcomes", "words"),
    [
        ({"base": 0.3, "adapted": 0.8, "extrusion": 0.5, "mean_shape": 0.6}, ["better", "better"], "is better than"),
        ({"base": 0.8, "adapted": 0.3, "extrusion": 0.5, "mean_shape": 0.6}, ["worse", "worse"], "is worse than"),
    ],
)
def test_claims_follow_the_intervals(
    evaluated: Path, tmp_path: Path, dice: dict[str, float], outcomes: list[str], words: str
) -> None:
    rows = rescored(read_rows(evaluated / "rows.csv"), lambda system, patient: dice[system] + 0.001 * patient)
    write_rows(tmp_path / "rows.csv", rows)
    write_summary(tmp_path, rows)
    results = read_results(tmp_path)
    assert best_baseline(results) == "mean_shape"
    found = claims(results)
    assert [claim.against for claim in found] == ["base", "mean_shape"]
    assert [claim.outcome for claim in found] == outcomes
    assert all(words in claim.sentence for claim in found)
    assert "6 slices of 3 patients" in found[0].sentence


def test_what_cannot_be_told_apart_is_said(evaluated: Path, tmp_path: Path) -> None:
    mixed = {"adapted": (0.5, 0.6, 0.7), "base": (0.6, 0.5, 0.7), "extrusion": (0.4, 0.7, 0.7), "mean_shape": (0, 0, 0)}
    rows = rescored(read_rows(evaluated / "rows.csv"), lambda system, patient: mixed[system][patient])
    write_rows(tmp_path / "rows.csv", rows)
    write_summary(tmp_path, rows)
    assert all("cannot be told apart" in claim.sentence for claim in claims(read_results(tmp_path)))


def test_one_patient_gives_no_interval_and_no_claim_of_better(evaluated: Path, tmp_path: Path) -> None:
    rows = [row for row in read_rows(evaluated / "rows.csv") if row.case == "case <0>"]
    write_rows(tmp_path / "rows.csv", rows)
    write_summary(tmp_path, rows)
    page = Page(write_report(tmp_path).html.read_text(encoding="utf-8"))
    assert [claim.outcome for claim in claims(read_results(tmp_path))] == ["unknown", "unknown"]
    assert "no interval can be given" in page.text
    assert "Cases of" not in page.text  # no artefacts, no gallery


def test_planes_that_score_alike_are_not_taken_for_one(evaluated: Path, tmp_path: Path) -> None:
    rows = rescored(read_rows(evaluated / "rows.csv"), lambda system, patient: 0.0)
    write_rows(tmp_path / "rows.csv", rows)
    write_summary(tmp_path, rows)
    assert hardest_sentence(read_results(tmp_path)) == "Mean Dice is 0.000 in every plane."
    axial = [row for row in rows if row.plane == "axial"]
    write_rows(tmp_path / "rows.csv", axial)
    write_summary(tmp_path, axial)
    assert hardest_sentence(read_results(tmp_path)) == "All slices are axial."


def test_a_case_shows_the_spread_that_was_stated_for_it(tmp_path: Path) -> None:
    def states(slice: SliceInput, seed: int) -> Mesh:
        mesh = ball_mesh(9.0, points=16)
        stated = Stated(mesh, lambda part: np.full(len(part.vertices), 2.34))
        return stated  # type: ignore[return-value]  # the evaluator takes it in place of a mesh

    write_summary(tmp_path, evaluate([ball_case("c")], {"adapted": states}, tmp_path))
    words = Page(write_report(tmp_path).html.read_text(encoding="utf-8")).text
    assert "stated spread" in words and "± 2.3 mm" in words


def test_a_ceiling_is_no_rival(evaluated: Path, tmp_path: Path) -> None:
    names = {"mean_shape": "ceiling_mesh", "base": "adapted_k1"}
    rows = [replace(row, system=names.get(row.system, row.system)) for row in read_rows(evaluated / "rows.csv")]
    dice = {"adapted": 0.6, "adapted_k1": 0.7, "extrusion": 0.4, "ceiling_mesh": 0.98}
    rows = rescored(rows, lambda system, patient: dice[system] + 0.001 * patient)
    write_rows(tmp_path / "rows.csv", rows)
    write_summary(tmp_path, rows)
    results = read_results(tmp_path)
    assert best_baseline(results) == "extrusion"
    assert [claim.against for claim in claims(results)] == ["extrusion"]
    page = Page(write_report(tmp_path).html.read_text(encoding="utf-8"))
    assert "is better than the best alternative (the extrusion)." in page.text
    assert "adapted model, K = 1" in page.text and "a ceiling" in page.text
    bold = [dict(attributes) for tag, attributes in page.tags if tag == "td" and attributes.get("class") == "best"]
    assert bold and is_best(results, results.summary["systems"], "adapted_k1", "dice")
    assert not is_best(results, results.summary["systems"], "ceiling_mesh", "dice")


def test_training_and_calibration_are_shown_where_they_are(evaluated: Path, tmp_path: Path) -> None:
    rows = read_rows(evaluated / "rows.csv")
    write_rows(tmp_path / "rows.csv", rows)
    write_summary(tmp_path, rows)
    history = [{"epoch": 1, "train": {"loss": 2.0}}, {"epoch": 2, "train": {"loss": 1.5}, "validation": {"loss": 1.75}}]
    write_json(tmp_path / "history.json", history)
    write_json(tmp_path / "history_latent.json", [{**row, "validation": {"dice": 0.5}} for row in history])
    write_json(tmp_path / "calibration.json", {"levels": [0.5, 0.9], "within": [0.25, 0.8], "n": 7})
    page = Page(write_report(tmp_path).html.read_text(encoding="utf-8"))
    for heading in ("Training loss", "Training loss of the latent stage", "Validation Dice of the latent stage"):
        assert heading in page.text
    labels = " ".join(str(attributes.get("aria-label")) for _, attributes in page.tags)
    assert "training from 2.000 to 1.500; validation patients from 1.750 to 1.750" in labels
    assert "50% stated, 25% found, 90% stated, 80% found" in labels
    write_json(tmp_path / "calibration.json", {"levels": [0.5], "within": []})
    with pytest.raises(ValueError, match=r"calibration\.json: expected"):
        write_report(tmp_path)


def test_synthetic_scans_are_called_so_each_time_alike(evaluated: Path, tmp_path: Path) -> None:
    rows = read_rows(evaluated / "rows.csv")
    write_rows(tmp_path / "rows.csv", rows)
    write_summary(tmp_path, rows, SummaryOptions(synthetic=True))
    files = write_report(tmp_path)
    html = files.html.read_bytes()
    assert b"SYNTHETIC" in html and "SYNTHETIC" in files.markdown.read_text()
    assert write_report(tmp_path).html.read_bytes() == html  # no date, no random id


def test_the_markdown_names_every_failed_case(files: ReportFiles) -> None:
    text = files.markdown.read_text(encoding="utf-8")
    assert text.count("- adapted: case <") == 3 and "RuntimeError: <no> mesh" in text
    assert "not for diagnosis" in text and "| adapted | 6 | 3 | Dice |" in text


def test_a_folder_without_results_is_named(evaluated: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"rows\.csv is missing"):
        write_report(tmp_path)
    write_rows(tmp_path / "rows.csv", read_rows(evaluated / "rows.csv"))
    with pytest.raises(ValueError, match=r"summary\.json is missing"):
        write_report(tmp_path)
    (tmp_path / "summary.json").write_text(json.dumps({"metrics": {"other": {}}}))
    with pytest.raises(ValueError, match="line 2 is not a row"):
        write_report(tmp_path)
