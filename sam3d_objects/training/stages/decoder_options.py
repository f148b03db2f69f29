"""What the decoder stage is told, checked when it is made."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from sam3d_objects.files import nearest
from sam3d_objects.model.lora import DEFAULT_OUTPUT_LAYERS, LayerOptions, LoRAConfig
from sam3d_objects.training.adaptation import Adaptation
from sam3d_objects.training.stages.decoder_terms import DECODER_WEIGHTS
from sam3d_objects.training.targets import SOURCES, InversionOptions

DECODER_HEADS = DEFAULT_OUTPUT_LAYERS[1:]  # the layer that gives the cubes their features


@dataclass(frozen=True)
class DecoderOptions:
    """How the mesh decoder is adapted, and what the loss is.

    Attributes:
        method: `lora`, `full` or `scratch`.
        rank, alpha, dropout: of LoRA.
        targets: globs, or `re:` regular expressions, of full paths in the decoder; empty: all attention.
        train_heads: whether the output layer trains fully beside LoRA; it is saved with it.
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

    method: str = "lora"
    rank: int = 4
    alpha: float = 8.0
    dropout: float = 0.0
    targets: tuple[str, ...] = ()
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
        LayerOptions(self.rank, self.alpha, self.dropout)  # checks its own
        _ = self.adaptation  # and so does this
        for name, weight in self.weights.items():
            if name not in DECODER_WEIGHTS:
                known = ", ".join(DECODER_WEIGHTS)
                raise ValueError(f"weights: no term {name!r}; there are {known}.{nearest(name, DECODER_WEIGHTS)}")
            self._check(f"weights[{name!r}]", weight >= 0 and math.isfinite(weight), "0 or more", weight)
        object.__setattr__(self, "weights", {**DECODER_WEIGHTS, **self.weights})
        for name, holds, wanted in (
            ("weights", any(self.weights.values()), "above 0 for some term"),
            ("corners", self.corners >= 1, "at least 1"),
            ("points", self.points >= 1, "at least 1"),
            ("latent_source", self.latent_source in SOURCES, f"one of {', '.join(SOURCES)}"),
            ("target_distance_bar", 0 <= self.target_distance_bar < math.inf, "0 or more"),
        ):
            self._check(name, holds, wanted, getattr(self, name))

    @staticmethod
    def _check(name: str, holds: bool, wanted: str, value: object) -> None:
        if not holds:
            raise ValueError(f"{name} must be {wanted}, got {value!r}")

    @property
    def adaptation(self) -> Adaptation:
        """What of the decoder trains."""
        return Adaptation(self.method, self.lora)

    @property
    def lora(self) -> LoRAConfig:
        """Which layers of the decoder are adapted, and what trains fully beside them."""
        return LoRAConfig(
            rank=self.rank,
            alpha=self.alpha,
            dropout=self.dropout,
            target_modules=self.targets or None,
            trained_modules=DECODER_HEADS if self.train_heads else (),
        )
