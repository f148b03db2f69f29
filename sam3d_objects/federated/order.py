"""What the coordinator asks of a site, and what the site answers."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sam3d_objects.adapter import InferenceContract
from sam3d_objects.adapter.exchange import AdapterParameters

_SHARED = ("field_of_view", "margin_mm", "modality", "window_hu", "percentiles", "planes", "pointmap", "scene_scale_mm")
_MOST = 1_000_000


@dataclass(frozen=True)
class Order:
    """One round's work.

    Attributes:
        round: from 0.
        rounds: of the whole run; the learning rate falls over all of them.
        epochs: passes over a site's own samples in a round.

    Raises:
        ValueError: a number out of range.
    """

    round: int
    rounds: int
    epochs: int

    def __post_init__(self) -> None:
        values = dataclasses.asdict(self)
        for name, value in values.items():
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MOST:
                raise ValueError(f"{name} of a round must be a whole number from 0 to {_MOST}, got {value!r}")
        if not (self.round < self.rounds and self.epochs >= 1):
            raise ValueError(f"a round is numbered below the number of rounds and has epochs; got {values}")


@dataclass(frozen=True)
class SiteReport:
    """What a site answers.

    Attributes:
        parameters: of its adapter after the round; `parameters.samples` is its number of training samples.
        contract: how slices were prepared there; sites with another one than the others' are refused.
        organs: what it trained on.
        metrics: of the round, all finite.
    """

    parameters: AdapterParameters
    contract: InferenceContract
    organs: tuple[str, ...]
    metrics: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        bad = [name for name, value in self.metrics.items() if not math.isfinite(value)]
        if bad:
            raise ValueError(f"metrics that are not finite: {', '.join(bad)}")

    def about(self) -> dict[str, Any]:
        """Return what is not numbers, as JSON."""
        return {"contract": dataclasses.asdict(self.contract), "organs": list(self.organs)}


def read_contract(record: Mapping[str, Any]) -> InferenceContract:
    """Read a contract out of a site's JSON.

    Raises:
        ValueError: keys that are missing or unknown, or values out of range.
    """
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in record.items()
    }
    try:
        return InferenceContract(**values)
    except TypeError as error:
        raise ValueError(f"this is no inference contract: {error}") from error


def check_contract(expected: InferenceContract | None, came: InferenceContract) -> None:
    """Raise ValueError where slices are prepared in another way than expected, which one adapter could not serve."""
    for name in _SHARED if expected else ():
        ours, theirs = getattr(expected, name), getattr(came, name)
        if ours != theirs:
            raise ValueError(f"slices prepared in another way: {name} is {theirs!r}, the other sites have {ours!r}")


def most_common_contract(contracts: Sequence[InferenceContract]) -> InferenceContract | None:
    """Return a contract of the way in which most sites prepare slices, the first of equals; None without any."""
    ways = [tuple(getattr(contract, name) for name in _SHARED) for contract in contracts]
    return contracts[max(range(len(ways)), key=lambda i: ways.count(ways[i]))] if ways else None
