"""What the stages of the two flows are told alike: of times, draws and dropped conditions."""

from collections.abc import Iterable
from dataclasses import dataclass

from sam3d_objects.training.adaptation import AdaptedOptions


@dataclass(frozen=True)
class FlowOptions(AdaptedOptions):
    """How a flow matching network is trained.

    Attributes, beside those of `AdaptedOptions`:
        condition_dropout: share of the samples whose condition is forced to zero, for guidance.
        time_mean, time_std: of the logit-normal time. The release has (-1, 1), which draws t > 0.75 in under
            2 % of steps; sampling in few steps wants a mean nearer to 0.
        draws: (time, noise) pairs per condition; more of them share the cost of the frozen embedder.
        cache_epochs: epochs whose samples are embedded once and used again; 0: each epoch cuts and embeds its own.
    """

    condition_dropout: float = 0.1
    time_mean: float = -1.0
    time_std: float = 1.0
    draws: int = 1
    cache_epochs: int = 0

    def check_flow(self, others: Iterable[tuple[str, bool, str]]) -> None:
        """Check the options above, and others, as `AdaptedOptions.check`.

        Raises:
            ValueError: one is out of range.
        """
        ours = (
            ("draws", self.draws >= 1, "at least 1"),
            ("condition_dropout", 0 <= self.condition_dropout <= 1, "in [0, 1]"),
            ("time_std", self.time_std > 0, "above 0"),
            ("cache_epochs", self.cache_epochs >= 0, "0 or more"),
        )
        self.check((*ours, *others))
