"""What the latent stage is told, checked when it is made."""

from dataclasses import dataclass, field

from sam3d_objects.model.lora import DEFAULT_OUTPUT_LAYERS, LayerOptions, LoRAConfig
from sam3d_objects.training.adaptation import Adaptation
from sam3d_objects.training.targets import SOURCES, InversionOptions

LATENT_HEADS = DEFAULT_OUTPUT_LAYERS[1:]  # the flow's one output layer


@dataclass(frozen=True)
class LatentOptions:
    """How the latent flow is adapted, and to what.

    Attributes:
        method: `lora`, `full` or `scratch`.
        rank, alpha, dropout: of LoRA.
        targets: globs, or `re:` regular expressions, of full paths in the flow; empty: all attention.
        train_heads: whether the output layer trains fully beside LoRA; it is saved with it.
        condition_dropout: share of the samples whose condition is forced to zero, for guidance.
        time_mean, time_std: of the logit-normal time; the release has (-1, 1).
        draws: (time, noise) pairs per condition; more of them share the cost of the frozen embedder.
        latent_source: who makes the targets: `encoder`, `inversion`, or `auto`, the encoder where it can be run.
        inversion: how latents are searched for, where they are.
        target_distance_bar: largest encode -> decode surface distance of a target, as a share of the organ's longest
            side; 0 accepts all.
        cache_epochs: epochs whose samples are embedded once and used again; 0: each epoch cuts and embeds its own.
    """

    method: str = "lora"
    rank: int = 4
    alpha: float = 8.0
    dropout: float = 0.0
    targets: tuple[str, ...] = ()
    train_heads: bool = True
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
        LayerOptions(self.rank, self.alpha, self.dropout)  # checks its own
        _ = self.adaptation  # and so does this
        for name, holds, wanted in (
            ("draws", self.draws >= 1, "at least 1"),
            ("condition_dropout", 0 <= self.condition_dropout <= 1, "in [0, 1]"),
            ("time_std", self.time_std > 0, "above 0"),
            ("latent_source", self.latent_source in SOURCES, f"one of {', '.join(SOURCES)}"),
            ("target_distance_bar", 0 <= self.target_distance_bar < float("inf"), "0 or more"),
            ("cache_epochs", self.cache_epochs >= 0, "0 or more"),
        ):
            if not holds:
                raise ValueError(f"{name} must be {wanted}, got {getattr(self, name)!r}")

    @property
    def adaptation(self) -> Adaptation:
        """What of the flow trains."""
        return Adaptation(self.method, self.lora)

    @property
    def lora(self) -> LoRAConfig:
        """Which layers of the flow are adapted, and what trains fully beside them."""
        return LoRAConfig(
            rank=self.rank,
            alpha=self.alpha,
            dropout=self.dropout,
            target_modules=self.targets or None,
            trained_modules=LATENT_HEADS if self.train_heads else (),
        )
