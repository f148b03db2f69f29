"""What the structure stage is told, checked when it is made."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from sam3d_objects.model.flow_matching import STRUCTURE_WEIGHTS
from sam3d_objects.model.lora import DEFAULT_OUTPUT_LAYERS, LayerOptions, LoRAConfig
from sam3d_objects.training.adaptation import Adaptation

STRUCTURE_HEADS = DEFAULT_OUTPUT_LAYERS[:1]  # those of the latents; the flow has no other output layer


@dataclass(frozen=True)
class StructureOptions:
    """How the structure flow is adapted and what the loss is.

    Attributes:
        method: `lora`, `full` or `scratch`.
        rank, alpha, dropout: of LoRA.
        targets: globs, or `re:` regular expressions, of full paths in the flow; empty: all attention.
        train_heads: whether the latents' output layers train fully beside LoRA; they are saved with it.
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
        LayerOptions(self.rank, self.alpha, self.dropout)  # checks its own
        _ = self.adaptation  # and so does this
        for name, holds, wanted in (
            ("draws", self.draws >= 1, "at least 1"),
            ("condition_dropout", 0 <= self.condition_dropout <= 1, "in [0, 1]"),
            ("time_std", self.time_std > 0, "above 0"),
            ("shortcut_weight", self.shortcut_weight >= 0, "0 or more"),
            ("cache_epochs", self.cache_epochs >= 0, "0 or more"),
            ("target_iou_bar", 0 <= self.target_iou_bar <= 1, "in [0, 1]"),
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
            trained_modules=STRUCTURE_HEADS if self.train_heads else (),
        )
