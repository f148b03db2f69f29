"""What the latent stage is told, checked when it is made."""

from dataclasses import dataclass, field
from typing import ClassVar

from sam3d_objects.model.lora import DEFAULT_OUTPUT_LAYERS
from sam3d_objects.training.stages.flow_options import FlowOptions
from sam3d_objects.training.targets import SOURCES, InversionOptions


@dataclass(frozen=True)
class LatentOptions(FlowOptions):
    """How the latent flow is adapted, and to what.

    Attributes, beside those of `FlowOptions`:
        latent_source: who makes the targets: `encoder`, `inversion`, or `auto`, the encoder where it can be run.
        inversion: how latents are searched for, where they are.
        target_distance_bar: largest encode -> decode surface distance of a target, as a share of the organ's longest
            side; 0 accepts all.
    """

    heads: ClassVar[tuple[str, ...]] = DEFAULT_OUTPUT_LAYERS[1:]  # the flow's one output layer

    latent_source: str = "auto"
    inversion: InversionOptions = field(default_factory=InversionOptions)
    target_distance_bar: float = 0.01

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: one is out of range.
        """
        self.check_flow(
            (
                ("latent_source", self.latent_source in SOURCES, f"one of {', '.join(SOURCES)}"),
                ("target_distance_bar", 0 <= self.target_distance_bar < float("inf"), "0 or more"),
            )
        )
