"""The report in a browser: it draws, says what it shows, can be read in light and dark, prints, and loads nothing."""

import io
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, ConsoleMessage, Page, Request

from sam3d_objects.arrays import AnyArray
from sam3d_objects.files import write_json
from sam3d_objects.report import write_report
from tests.report.folders import evaluated_folder

WAIT_MS = 60_000

# Ratio of luminances as WCAG 2 defines it, for every text on the page against what is painted behind it.
CONTRAST = """
() => {
  const parts = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => c <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4)
    .reduce((sum, c, n) => sum + c * [.2126, .7152, .0722][n], 0);
  const behind = (element) => {
    for (let node = element; node; node = node.parentElement) {
      const colour = parts(getComputedStyle(node).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  const walker = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || element.closest("script, noscript, .hoverlayer")) continue;
    if (!element.getClientRects().length) continue;
    const style = getComputedStyle(element);
    const ink = light(parts(element.closest("svg") ? style.fill : style.color)), paper = light(behind(element));
    const ratio = (Math.max(ink, paper) + .05) / (Math.min(ink, paper) + .05);
    found.push([ratio, walker.currentNode.data.trim().slice(0, 40)]);
  }
  return found;
}
"""


@dataclass
class Opened:
    """The page and what it did while it was open."""

    page: Page
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def listen(self) -> None:
        def heard(message: ConsoleMessage) -> None:
            if message.type == "error":
                self.errors.append(message.text)

        def asked(request: Request) -> None:
            if not request.url.startswith(("data:", "blob:")):
                self.requests.append(request.url)

        self.page.on("console", heard)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", asked)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = evaluated_folder(tmp_path_factory.mktemp("report"), patients=2)
    history = [{"epoch": n, "train": {"loss": 2 / n}, "validation": {"loss": 3 / n, "dice": 0.5}} for n in (1, 2, 3)]
    write_json(folder / "history.json", history)
    write_json(folder / "calibration.json", {"levels": [0.5, 0.9], "within": [0.4, 0.85], "n": 6})
    return write_report(folder).html


@pytest.fixture(scope="module")
def opened(browser: Browser, report: Path) -> Iterator[Opened]:
    page = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme="light")
    found = Opened(page)
    found.listen()
    page.goto(report.as_uri())
    page.wait_for_function("document.querySelectorAll('.chart .main-svg').length > 0", timeout=WAIT_MS)
    yield found
    page.close()


def faint_texts(page: Page) -> list[tuple[float, str]]:
    """Texts under WCAG's 4.5 and their ratios, once the plots are painted anew: some time after a change of medium."""
    latest = time.monotonic() + WAIT_MS / 1000
    page.wait_for_timeout(500)  # what is painted anew may also be worse
    while True:
        ratios = page.evaluate(CONTRAST)
        assert len(ratios) > 100
        faint = [(ratio, words) for ratio, words in ratios if ratio < 4.5]
        if not faint or time.monotonic() > latest:
            return faint
        page.wait_for_timeout(100)


def pixels(png: bytes) -> AnyArray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), dtype=np.int64)


def show_first_view(page: Page) -> None:
    page.locator(".stage").first.scroll_into_view_if_needed()
    page.wait_for_function("document.querySelector('#solid-0').dataset.state === 'drawn'", timeout=WAIT_MS)


def test_the_3d_view_draws_the_surfaces_in_their_colours(opened: Opened) -> None:
    show_first_view(opened.page)
    assert opened.page.locator("#solid-0 canvas").count() >= 2
    # The still picture is out of the way: what is seen is WebGL's.
    assert opened.page.locator(".stage img").first.evaluate("image => getComputedStyle(image).visibility") == "hidden"
    picture = pixels(opened.page.locator("#solid-0").screenshot())
    painted = np.abs(picture - picture[2, -3]).max(axis=-1) > 25
    for half in np.array_split(painted, 2):
        assert half.mean() > 0.04
    # The prediction is smaller than the truth, and blue says so.
    blue = picture[..., 2] - picture[..., 0] > 15
    assert blue.mean() > 0.01


def test_a_view_turns_and_both_sides_turn_together(opened: Opened) -> None:
    show_first_view(opened.page)
    before = pixels(opened.page.locator("#solid-0").screenshot())
    box = opened.page.locator("#solid-0").bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 4
    opened.page.mouse.move(x, y)
    opened.page.mouse.down()
    opened.page.mouse.move(x + 90, y + 40, steps=4)
    opened.page.mouse.up()
    same = "JSON.stringify(p._fullLayout.scene.camera.eye) === JSON.stringify(p._fullLayout.scene2.camera.eye)"
    opened.page.wait_for_function(f"(() => {{ const p = document.querySelector('#solid-0'); return {same}; }})()")
    after = pixels(opened.page.locator("#solid-0").screenshot())
    for one, other in zip(np.array_split(before, 2), np.array_split(after, 2), strict=True):
        assert (np.abs(one - other).max(axis=-1) > 25).mean() > 0.002


def test_views_far_away_give_their_contexts_back(opened: Opened) -> None:
    show_first_view(opened.page)
    opened.page.evaluate("window.scrollTo(0, 0)")
    opened.page.wait_for_function("!document.querySelector('#solid-0').dataset.state", timeout=WAIT_MS)
    assert opened.page.locator("#solid-0 canvas").count() == 0
    assert opened.page.locator(".stage img").first.evaluate("image => getComputedStyle(image).visibility") == "visible"


def test_every_figure_has_words(opened: Opened) -> None:
    unnamed = opened.page.evaluate(
        """() => [...document.querySelectorAll("figure")].filter((figure) => {
            const named = [...figure.querySelectorAll("[aria-label], img[alt]")]
              .map((element) => element.getAttribute("aria-label") || element.alt);
            return !named.some((words) => words.length > 30);
        }).map((figure) => figure.outerHTML.slice(0, 80))"""
    )
    assert unnamed == [] and opened.page.locator("figure").count() > 20


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_can_be_read(opened: Opened, scheme: str) -> None:
    opened.page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    assert faint_texts(opened.page) == []
    paper = pixels(opened.page.screenshot())[5, 5]
    assert paper.max() < 60 if scheme == "dark" else paper.min() > 200
    opened.page.emulate_media(color_scheme="light")


def test_it_prints_light_and_with_still_pictures(opened: Opened) -> None:
    opened.page.emulate_media(media="print", color_scheme="dark")
    assert faint_texts(opened.page) == []
    assert opened.page.locator("#solid-0").evaluate("place => getComputedStyle(place).display") == "none"
    opened.page.emulate_media(media="screen", color_scheme="light")
    pdf = opened.page.pdf(format="A4")
    assert pdf.startswith(b"%PDF") and pdf.count(b"/Type /Page\n") >= 3
    assert len(pdf) > 100_000


def test_it_fits_a_phone(opened: Opened) -> None:
    opened.page.set_viewport_size({"width": 400, "height": 800})
    # The plots are drawn anew some time after the window has changed.
    opened.page.wait_for_function("document.documentElement.scrollWidth <= 400", timeout=WAIT_MS)
    opened.page.set_viewport_size({"width": 1280, "height": 900})


def test_nothing_went_wrong_and_nothing_was_loaded(opened: Opened, report: Path) -> None:
    assert opened.errors == []
    assert opened.requests == [report.as_uri()]
