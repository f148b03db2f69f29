"""What the structure stage is told, checked when it is made."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from sam3d_objects.model.flow_matching import STRUCTURE_WEIGHTS
from sam3d_objects.model.lora import DEFAULT_OUTPUT_LAYERS
from sam3d_objects.training.stages.flow_options import FlowOptions


@dataclass(frozen=True)
class StructureOptions(FlowOptions):
    """How the structure flow is adapted and what the loss is.

    Attributes, beside those of `FlowOptions`:
        weights: of the latents' losses.
        drop_pointmap: train without pointmap tokens (zeros in their place), which the embedder knows.
        shortcut_weight: of the self-consistency term that keeps a distilled model distilled; 0: none.
        target_iou_bar: least encode -> decode IoU of a target; 0 accepts all.
    """

    heads: ClassVar[tuple[str, ...]] = DEFAULT_OUTPUT_LAYERS[:1]  # those of the latents; there are no others

    weights: Mapping[str, float] = field(default_factory=lambda: dict(STRUCTURE_WEIGHTS))
    drop_pointmap: bool = False
    shortcut_weight: float = 0.0
    target_iou_bar: float = 0.6

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: one is out of range.
        """
        self.check_flow(
            (
                ("shortcut_weight", self.shortcut_weight >= 0, "0 or more"),
                ("target_iou_bar", 0 <= self.target_iou_bar <= 1, "in [0, 1]"),
            )
        )
