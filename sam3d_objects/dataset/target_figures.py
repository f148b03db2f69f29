"""How good training targets are: what encoder and decoder of a base give back of each organ."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class TargetFigures:
    """Encode -> decode of one organ as it is (not of its warps).

    Attributes:
        iou: overlap of what was encoded with what was decoded, in [0, 1]; None for targets that are no grid.
        assd_mm: average symmetric distance between the organ's and the decoded surface, mm; None: nothing was decoded.
        p95_mm: 95th percentile of the distance, the larger of both ways, mm; None: nothing was decoded.
    """

    iou: float | None
    assd_mm: float | None
    p95_mm: float | None


@dataclass(frozen=True)
class TargetRecord:
    """Who made a stage's targets, and how good they are.

    Attributes:
        base: name of the base model; fingerprint: SHA-256 of the weights of the half of it that made the targets.
        source: 'encoder' or 'inversion'.
        cases: case -> structure -> figures.
    """

    base: str
    fingerprint: str
    source: str
    cases: Mapping[str, Mapping[str, TargetFigures]]

    def joined(self, older: "TargetRecord") -> "TargetRecord":
        """This record with an older one's organs added, if the same maker made both; its own figures win."""
        if (older.fingerprint, older.source) != (self.fingerprint, self.source):
            return self
        ids = sorted(older.cases.keys() | self.cases.keys())
        cases = {case: {**older.cases.get(case, {}), **self.cases.get(case, {})} for case in ids}
        return TargetRecord(self.base, self.fingerprint, self.source, cases)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "TargetRecord":
        """Read what `dataclasses.asdict` gave and JSON kept."""
        cases = {
            case: {organ: TargetFigures(**figures) for organ, figures in organs.items()}
            for case, organs in content["cases"].items()
        }
        return cls(content["base"], content["fingerprint"], content["source"], cases)
