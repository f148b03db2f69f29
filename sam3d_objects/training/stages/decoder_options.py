"""What the decoder stage is told, checked when it is made."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from sam3d_objects.files import nearest
from sam3d_objects.model.lora import DEFAULT_OUTPUT_LAYERS
from sam3d_objects.training.adaptation import AdaptedOptions
from sam3d_objects.training.stages.decoder_terms import DECODER_WEIGHTS
from sam3d_objects.training.targets import SOURCES, InversionOptions


@dataclass(frozen=True)
class DecoderOptions(AdaptedOptions):
    """How the mesh decoder is adapted, and what the loss is.

    Attributes, beside those of `AdaptedOptions`:
        weights: of the terms (`DECODER_WEIGHTS` has all their names); a name that is left out keeps its default, a
            term of weight 0 is not computed.
        corners: corners of fine cubes whose true distance is asked in each step, of each shape.
        points: points on the found and on the true surface, of each shape, for the Chamfer distance.
        latent_source: who makes the latents that are decoded: `encoder`, `inversion`, or `auto`, the encoder where it
            can be run.
        inversion: how latents are searched for, where they are.
        target_distance_bar: largest surface distance of what the untrained decoder makes of them, as a share of the
            organ's longest side; 0 accepts all.
    """

    heads: ClassVar[tuple[str, ...]] = DEFAULT_OUTPUT_LAYERS[1:]  # the layer that gives the cubes their features

    train_heads: bool = False
    weights: Mapping[str, float] = field(default_factory=dict)
    corners: int = 8192
    points: int = 4096
    latent_source: str = "auto"
    inversion: InversionOptions = field(default_factory=InversionOptions)
    target_distance_bar: float = 0.01

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: one is out of range, or a weight has a name that no term has.
        """
        for name, weight in self.weights.items():
            if name not in DECODER_WEIGHTS:
                known = ", ".join(DECODER_WEIGHTS)
                raise ValueError(f"weights: no term {name!r}; there are {known}.{nearest(name, DECODER_WEIGHTS)}")
            if not (weight >= 0 and math.isfinite(weight)):
                raise ValueError(f"weights[{name!r}] must be 0 or more, got {weight!r}")
        object.__setattr__(self, "weights", {**DECODER_WEIGHTS, **self.weights})
        self.check(
            (
                ("weights", any(self.weights.values()), "above 0 for some term"),
                ("corners", self.corners >= 1, "at least 1"),
                ("points", self.points >= 1, "at least 1"),
                ("latent_source", self.latent_source in SOURCES, f"one of {', '.join(SOURCES)}"),
                ("target_distance_bar", 0 <= self.target_distance_bar < math.inf, "0 or more"),
            )
        )
