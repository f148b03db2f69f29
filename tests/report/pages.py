"""A report as a program reads it."""

import json
from html.parser import HTMLParser


class Page(HTMLParser):
    """What a browser would load, and the text in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.plots: dict[str, dict[str, list[dict[str, object]]]] = {}
        self._inside: dict[str, str | None] | None = None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._inside = dict(attrs)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style"):
            self._inside = None

    def handle_data(self, data: str) -> None:
        if self._inside is None:
            self.words.append(data)
        elif "data-plot" in self._inside:
            self.plots[str(self._inside["data-plot"])] = json.loads(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())
