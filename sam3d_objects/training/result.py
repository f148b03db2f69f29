"""How a run ends."""

from dataclasses import dataclass
from pathlib import Path


class NonFiniteLossError(FloatingPointError):
    """The loss, its gradient or a metric is NaN or infinite; the message names where and the samples."""


@dataclass(frozen=True)
class TrainResult:
    """How a run ended.

    Attributes:
        best, last: folders that the stage saved.
        metrics: of the best validation; empty where nothing was validated.
        epochs, steps: that were done.
        stopped_early: early stopping ended it; interrupted: somebody asked it to stop, and it can be resumed.
    """

    best: Path
    last: Path
    metrics: dict[str, float]
    epochs: int
    steps: int
    stopped_early: bool
    interrupted: bool

    @property
    def ending(self) -> str:
        """Say in words how it ended."""
        if self.interrupted:
            return "interrupted (resume to go on)"
        return "stopped early" if self.stopped_early else "done"
