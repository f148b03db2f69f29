"""What the training loop is told, checked when it is made."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

PRECISIONS = ("auto", "32", "bf16", "16")
STRATEGIES = ("auto", "ddp", "fsdp")

# These change how a run is carried out, never what comes out of it, so a resumed run may differ in them.
_FREE = ("num_workers", "checkpoint_steps", "log_steps", "checkpoint_activations")
# The run's record has what these came to, together with the environment.
_RESOLVED = ("device", "devices", "strategy", "precision")


@dataclass(frozen=True)
class LoopOptions:
    """How to run the one training loop, whatever the stage.

    Attributes:
        epochs: passes over the training samples, at most (early stopping may end it before).
        batch_size, accumulate: samples in a forward pass of each process; forward passes in an optimiser step. The
            last step of an epoch takes what is left.
        lr, weight_decay, betas: AdamW's (Loshchilov and Hutter 2019, arXiv 1711.05101); tensors of fewer than
            two dimensions are not decayed.
        warmup_steps: steps over which the learning rate climbs, but no more than a tenth of the run;
            lr_floor: the part of `lr` at which the cosine ends.
        clip_norm: largest norm of the gradient; 0 turns clipping off.
        ema_decay: decay of the running average of the trained weights, which is then what is validated and
            saved; 0 turns it off.
        validate_every: epochs between validations.
        patience: validations without a better score after which training stops; 0 turns early stopping off.
        min_improvement: what a score must gain to count as better.
        precision: auto is bf16 (16, with a loss scaler, where a GPU lacks bf16) on a GPU and 32 elsewhere;
            bf16 and 16 are mixed: weights and optimiser stay in float32.
        device: auto (a CUDA GPU if there is one, else the CPU), cpu, cuda or cuda:N.
        devices: processes on this machine, each with a device of its own (on the CPU, processes alone). Under
            `torchrun` and `fabric run` the environment says how many.
        strategy: what several processes share: ddp has all weights in each, fsdp a part of them; auto is ddp.
        compile: compile the network (torch.compile), which changes rounding; not for networks of voxels.
        checkpoint_activations: keep no activations inside blocks and compute them again in the backward pass.
        seed: of everything random.
        num_workers: threads that load samples ahead; the batches do not depend on it.
        checkpoint_steps: optimiser steps between checkpoints; the end of each epoch always has one. 0: only
            that.
        log_steps: optimiser steps between TensorBoard scalars.
    """

    epochs: int = 20
    batch_size: int = 16
    accumulate: int = 1
    lr: float = 1e-3
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.99)
    warmup_steps: int = 50
    lr_floor: float = 0.02
    clip_norm: float = 1.0
    ema_decay: float = 0.0
    validate_every: int = 1
    patience: int = 5
    min_improvement: float = 0.0
    precision: str = "auto"
    device: str = "auto"
    devices: int = 1
    strategy: str = "auto"
    compile: bool = False
    checkpoint_activations: bool = False
    seed: int = 0
    num_workers: int = 0
    checkpoint_steps: int = 100
    log_steps: int = 10

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            ValueError: a value is out of range; the message names it and its range.
        """
        for name in ("epochs", "batch_size", "accumulate", "validate_every", "log_steps", "devices"):
            self._check(name, getattr(self, name) >= 1, "at least 1")
        for name in ("patience", "num_workers", "checkpoint_steps", "seed", "warmup_steps"):
            self._check(name, getattr(self, name) >= 0, "0 or more")
        for name in ("weight_decay", "clip_norm", "min_improvement"):
            self._check(name, getattr(self, name) >= 0 and math.isfinite(getattr(self, name)), "0 or more")
        self._check("lr", self.lr > 0 and math.isfinite(self.lr), "above 0")
        self._check("betas", len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas), "two in [0, 1)")
        self._check("ema_decay", 0 <= self.ema_decay < 1, "in [0, 1)")
        self._check("lr_floor", 0 <= self.lr_floor <= 1, "in [0, 1]")
        self._check("strategy", self.strategy in STRATEGIES, f"one of {', '.join(STRATEGIES)}")
        self._check("precision", self.precision in PRECISIONS, f"one of {', '.join(PRECISIONS)}")

    def _check(self, name: str, holds: bool, wanted: str) -> None:
        if not holds:
            raise ValueError(f"{name} must be {wanted}, got {getattr(self, name)!r}")

    def record(self) -> dict[str, Any]:
        """Return the options that a resumed run must share, but for those that the environment has a say in."""
        values = dataclasses.asdict(self)
        return {name: value for name, value in values.items() if name not in _FREE + _RESOLVED}
