"""How a stage's module is changed: by LoRA, as a whole, or from scratch. The rest of the loop is the same."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import nn

from sam3d_objects.model.initial import draw_initial_weights
from sam3d_objects.model.lora import ALL_PARAMETERS, LayerOptions, LoRAConfig, lora_summary, setup_from_config
from sam3d_objects.model.quantised import float32_trained

METHODS = ("lora", "full", "scratch")


@dataclass(frozen=True)
class Adaptation:
    """What of a module trains, and from which weights on.

    Attributes:
        method: `lora` trains low-rank updates, and heads where `lora` names some; `full` all weights; `scratch` all
            weights, drawn anew as the module's constructor draws them, from the seeded global generator.
        lora: for the method `lora`.

    Raises:
        ValueError: an unknown method.
    """

    method: str = "lora"
    lora: LoRAConfig = field(default_factory=LoRAConfig)

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"method is one of {', '.join(METHODS)}; got {self.method!r}")

    @property
    def saved_config(self) -> LoRAConfig:
        """What `save_adapter` is given; without LoRA the adapter holds all weights that trained."""
        if self.method == "lora":
            return self.lora
        return LoRAConfig(target_modules=(), trained_modules=ALL_PARAMETERS)

    def apply(self, module: nn.Module) -> str:
        """Freeze the module and make ready what trains, in float32, in place; returns a summary for people.

        Raises:
            ValueError: a target that the module does not have, or all weights of a base that is kept in half precision
                or 8 bits: what trains fully needs float32.
        """
        if self.method != "lora" and any(p.dtype not in (torch.float32, torch.float64) for p in module.parameters()):
            raise ValueError(
                f"method {self.method} trains every weight, and they are not kept in float32: take the base in fp32 "
                "(--base_dtype fp32), or train with LoRA"
            )
        setup_from_config(module, self.saved_config)
        float32_trained(module)
        if self.method == "scratch":
            draw_initial_weights(module)
        return f"method {self.method}\n{lora_summary(module)}"


@dataclass(frozen=True)
class AdaptedOptions:
    """What each stage is told of how its module is adapted; a stage's own options follow.

    Attributes:
        method: `lora`, `full` or `scratch`.
        rank, alpha, dropout: of LoRA.
        targets: globs, or `re:` regular expressions, of full paths in the module; empty: all attention.
        train_heads: whether the module's output layers train fully beside LoRA; they are saved with it.
        heads: which layers these are, patterns as in `targets`; each stage says its own.
        trained: patterns of what trains fully beside LoRA instead, whatever `train_heads` says; None: the heads.
    """

    heads: ClassVar[tuple[str, ...]] = ()

    method: str = "lora"
    rank: int = 4
    alpha: float = 8.0
    dropout: float = 0.0
    targets: tuple[str, ...] = ()
    train_heads: bool = True
    trained: tuple[str, ...] | None = None

    @property
    def adaptation(self) -> Adaptation:
        """What of the module trains."""
        return Adaptation(self.method, self.lora)

    @property
    def lora(self) -> LoRAConfig:
        """Which layers of the module are adapted, and what trains fully beside them."""
        return LoRAConfig(
            rank=self.rank,
            alpha=self.alpha,
            dropout=self.dropout,
            target_modules=self.targets or None,
            trained_modules=(self.heads if self.train_heads else ()) if self.trained is None else self.trained,
        )

    def check(self, others: Iterable[tuple[str, bool, str]]) -> None:
        """Check the options above, and others: (name, whether it holds, what is wanted).

        Raises:
            ValueError: one is out of range.
        """
        LayerOptions(self.rank, self.alpha, self.dropout)  # checks its own
        _ = self.adaptation  # and so does this
        for name, holds, wanted in others:
            if not holds:
                raise ValueError(f"{name} must be {wanted}, got {getattr(self, name)!r}")
