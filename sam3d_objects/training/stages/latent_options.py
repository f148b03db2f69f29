"""What the latent stage is told, checked when it is made."""

from dataclasses import dataclass, field
from typing import ClassVar

from sam3d_objects.model.lora import DEFAULT_OUTPUT_LAYERS
from sam3d_objects.training.adaptation import AdaptedOptions
from sam3d_objects.training.targets import SOURCES, InversionOptions


@dataclass(frozen=True)
class LatentOptions(AdaptedOptions):
    """How the latent flow is adapted, and to what.

    Attributes, beside those of `AdaptedOptions`:
        condition_dropout: share of the samples whose condition is forced to zero, for guidance.
        time_mean, time_std: of the logit-normal time; the release has (-1, 1).
        draws: (time, noise) pairs per condition; more of them share the cost of the frozen embedder.
        latent_source: who makes the targets: `encoder`, `inversion`, or `auto`, the encoder where it can be run.
        inversion: how latents are searched for, where they are.
        target_distance_bar: largest encode -> decode surface distance of a target, as a share of the organ's longest
            side; 0 accepts all.
        cache_epochs: epochs whose samples are embedded once and used again; 0: each epoch cuts and embeds its own.
    """

    heads: ClassVar[tuple[str, ...]] = DEFAULT_OUTPUT_LAYERS[1:]  # the flow's one output layer

    condition_dropout: float = 0.1
    time_mean: float = -1.0
    time_std: float = 1.0
    draws: int = 1
    latent_source: str = "auto"
    inversion: InversionOptions = field(default_factory=InversionOptions)
    target_distance_bar: float = 0.01
    cache_epochs: int = 0

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: one is out of range.
        """
        self.check(
            (
                ("draws", self.draws >= 1, "at least 1"),
                ("condition_dropout", 0 <= self.condition_dropout <= 1, "in [0, 1]"),
                ("time_std", self.time_std > 0, "above 0"),
                ("latent_source", self.latent_source in SOURCES, f"one of {', '.join(SOURCES)}"),
                ("target_distance_bar", 0 <= self.target_distance_bar < float("inf"), "0 or more"),
                ("cache_epochs", self.cache_epochs >= 0, "0 or more"),
            )
        )
