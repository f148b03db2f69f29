"""What a check found, and findings as plain lines."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["good", "note", "problem"]
_MARKS: dict[Kind, str] = {"good": "  ", "note": "- ", "problem": "! "}
_TOPIC_WIDTH = 11


@dataclass(frozen=True)
class Finding:
    """One line of a report.

    Attributes:
        topic: what was looked at, a word.
        text: what was found, and the remedy if it is a problem.
        kind: 'note' is worth knowing; 'problem' must be mended.
    """

    topic: str
    text: str
    kind: Kind = "good"


def listed(findings: Sequence[Finding]) -> str:
    """Return findings as lines; a topic is named once, notes begin with '-', problems with '!'."""
    lines = []
    for before, finding in zip([None, *findings], findings, strict=False):
        topic = "" if before is not None and before.topic == finding.topic else finding.topic
        lines.append(f"{topic:<{_TOPIC_WIDTH}}{_MARKS[finding.kind]}{finding.text}")
    return "\n".join(lines)
