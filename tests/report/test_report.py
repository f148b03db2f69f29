"""The report says what the rows say, stands alone, and hides no failure."""

import json
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from sam3d_objects.evaluation import Predictor, Row, SummaryOptions, evaluate, read_rows, write_rows, write_summary
from sam3d_objects.mesh import Mesh
from sam3d_objects.report import ReportFiles, best_baseline, claims, read_results, write_report
from sam3d_objects.volume import SliceInput
from tests.evaluation.solids import ball_case, ball_mesh


class Page(HTMLParser):
    """What a browser would load, and the text in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def radius(size_mm: float) -> Predictor:
    mesh = ball_mesh(size_mm, points=16)

    def predict(slice: SliceInput, seed: int) -> Mesh:
        return mesh

    return predict


def sometimes(slice: SliceInput, seed: int) -> Mesh:
    if slice.plane.name == "coronal":
        raise RuntimeError("<no> mesh")
    return ball_mesh(9.5, points=16)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("evaluated")
    cases = [ball_case(f"case <{n}>", 10.0 - 0.4 * n, plane) for n in range(3) for plane in ("axial", "coronal")]
    systems = {"base": radius(6.0), "adapted": sometimes, "extrusion": radius(9.0), "mean_shape": radius(5.0)}
    rows = evaluate(cases, systems, out)
    write_summary(out, rows, SummaryOptions(notes=("margin 3 mm & no more",)))
    return out


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
    html = files.html.read_text(encoding="utf-8")
    assert not {"script", "link", "iframe", "a"} & {tag for tag, _ in page.tags}
    assert "http" not in html.split("base64,")[0] and "url(" not in html
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(images) >= 6
    assert all(str(image["src"]).startswith("data:image/") and image["alt"] for image in images)
    assert ("html", {"lang": "en"}) in page.tags
    assert "<no>" not in html and "&lt;no&gt;" in html


def test_the_verdict_comes_first(page: Page) -> None:
    text = page.text
    order = [
        "Research use only, not for diagnosis",
        "Verdict",
        "All systems",
        "By plane",
        "Cases of adapted",
        "How this",
    ]
    assert [text.index(part) for part in order] == sorted(text.index(part) for part in order)
    assert "Failed cases, counted as overlap 0 and the diagonal of the scan: 3 of 6 (adapted)." in text
    assert "hardest from coronal ones (0.000)" in text
    assert "margin 3 mm & no more" in text
    assert "SYNTHETIC" not in text


def test_the_gallery_shows_the_worst_and_the_failed(page: Page) -> None:
    alts = [
        str(attributes["alt"]) for tag, attributes in page.tags if tag == "img" and "slice" in str(attributes["alt"])
    ]
    headings = [word for word in page.words if word in ("Best", "Median", "Worst", "Failed")]
    assert headings == ["Best", "Median", "Worst", "Failed", "Failed", "Failed"]
    assert sum("no prediction" in alt for alt in alts) == 3
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
    files = write_report(tmp_path)
    assert [claim.outcome for claim in claims(read_results(tmp_path))] == ["unknown", "unknown"]
    assert "no interval can be given" in files.html.read_text(encoding="utf-8")
    assert "Cases of" not in files.html.read_text(encoding="utf-8")  # no artefacts, no gallery


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
