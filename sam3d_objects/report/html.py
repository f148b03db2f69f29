"""HTML: the few elements that a report is made of, and its frame; text that comes from outside is escaped here."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files

from sam3d_objects.report.charts import Chart

RESEARCH_USE = "Research use only, not for diagnosis."
SYNTHETIC = "These scans are SYNTHETIC phantoms: the figures show that the tool works and say nothing about patients."
# Nothing may be loaded. Strings may be evaluated, because that is how browser automation looks at a page.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline' 'unsafe-eval'; img-src data: blob:"


@dataclass(frozen=True)
class Cell:
    """One cell of a table: its text, the class that marks it (`best`, `better`, `worse` or none), and what is less."""

    text: str
    mark: str = ""
    detail: str = ""

    @classmethod
    def split(cls, text: str, mark: str = "") -> "Cell":
        """A figure with its interval in brackets, which is what is less."""
        figure, _, rest = text.partition(" ")
        return cls(figure, mark, rest)

    @property
    def html(self) -> str:
        """The <td>."""
        marked = f' class="{quoted(self.mark)}"' if self.mark else ""
        detail = f" {tag('small', self.detail)}" if self.detail else ""
        return f"<td{marked}>{escape(self.text)}{detail}</td>"


def quoted(text: str) -> str:
    """Text for an attribute."""
    return escape(text, quote=True)


def tag(name: str, text: str, mark: str = "") -> str:
    """An element that holds text."""
    marked = f' class="{quoted(mark)}"' if mark else ""
    return f"<{name}{marked}>{escape(text)}</{name}>"


def table(caption: str, heading: Sequence[str], body: Sequence[tuple[str, str, Sequence[Cell]]]) -> str:
    """A table that scrolls sideways where it must; a body row is its name, its mark and its cells."""
    top = "".join(f'<th scope="col">{escape(text)}</th>' for text in heading)
    rows = []
    for name, mark, cells in body:
        row_class = f' class="{quoted(mark)}"' if mark else ""
        texts = "".join(cell.html for cell in cells)
        rows.append(f'<tr{row_class}><th scope="row">{escape(name)}</th>{texts}</tr>')
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{quoted(caption)}"><table>'
        f"{tag('caption', caption)}<thead><tr>{top}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def whole_page(title: str, sections: Sequence[str]) -> str:
    """The file: one that works offline, because script, style and figures are inside, and that may load nothing."""
    from plotly.offline import get_plotlyjs

    assets = files("sam3d_objects.report")
    style, script = (assets.joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"{tag('title', title)}\n<style>{style}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(sections)
        + f"\n</main>\n<script>{get_plotlyjs()}</script>\n<script>{script}</script>\n</body>\n</html>\n"
    )


def notices(synthetic: bool) -> str:
    """What must be read before any figure."""
    lines = [RESEARCH_USE, *([SYNTHETIC] if synthetic else [])]
    return "".join(tag("p", line, "notice") for line in lines)


def chart(figure: Chart, name: str) -> str:
    """A figure that page.js draws when it comes into view; `name` is its id on the page."""
    heading = tag("h3", figure.heading) if figure.heading else ""
    caption = tag("figcaption", figure.caption) if figure.caption else ""
    return f'<figure class="chart">{heading}{plot(figure, name)}{caption}</figure>'


def plot(figure: Chart, name: str) -> str:
    """The place of a figure, and its data."""
    return (
        f'<div class="plot" id="{quoted(name)}" role="img" aria-label="{quoted(figure.alt)}" '
        f'style="height:{figure.height_px}px"><noscript>{escape(figure.alt)}</noscript></div>'
        f'<script type="application/json" data-plot="{quoted(name)}">{_data(figure)}</script>'
    )


def _data(figure: Chart) -> str:
    text = json.dumps(
        {"data": list(figure.data), "layout": dict(figure.layout)}, allow_nan=False, separators=(",", ":")
    )
    # Inside a script element only "<" could end or open something.
    return text.replace("<", "\\u003c")
