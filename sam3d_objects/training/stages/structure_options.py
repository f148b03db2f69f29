"""What the structure stage is told, checked when it is made."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from sam3d_objects.model.flow_matching import STRUCTURE_WEIGHTS
from sam3d_objects.model.lora import DEFAULT_OUTPUT_LAYERS
from sam3d_objects.training.adaptation import AdaptedOptions


@dataclass(frozen=True)
class StructureOptions(AdaptedOptions):
    """How the structure flow is adapted and what the loss is.

    Attributes, beside those of `AdaptedOptions`:
        condition_dropout: share of the samples whose condition is forced to zero, for guidance.
        time_mean, time_std: of the logit-normal time. The release has (-1, 1), which draws t > 0.75 in under
            2 % of steps; sampling in few steps wants a mean nearer to 0.
        draws: (time, noise) pairs per condition; more of them share the cost of the frozen embedder.
        weights: of the latents' losses.
        drop_pointmap: train without pointmap tokens (zeros in their place), which the embedder knows.
        shortcut_weight: of the self-consistency term that keeps a distilled model distilled; 0: none.
        target_iou_bar: least encode -> decode IoU of a target; 0 accepts all.
        cache_epochs: epochs whose samples are embedded once and used again; 0: each epoch cuts and embeds its own.
    """

    heads: ClassVar[tuple[str, ...]] = DEFAULT_OUTPUT_LAYERS[
        :1
    ]  # those of the latents; there are no others

    condition_dropout: float = 0.1
    time_mean: float = -1.0
    time_std: float = 1.0
    draws: int = 1
    weights: Mapping[str, float] = field(default_factory=lambda: dict(STRUCTURE_WEIGHTS))
    drop_pointmap: bool = False
    shortcut_weight: float = 0.0
    target_iou_bar: float = 0.6
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
                ("shortcut_weight", self.shortcut_weight >= 0, "0 or more"),
                ("cache_epochs", self.cache_epochs >= 0, "0 or more"),
                ("target_iou_bar", 0 <= self.target_iou_bar <= 1, "in [0, 1]"),
            )
        )
