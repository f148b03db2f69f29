"""A plain training loop with exponential averaging and checkpoints, for making base weights from nothing.

Fine-tuning has its own loop (`training/trainer.py`); this one knows neither patients nor adapters.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from sam3d_objects.files import atomic_path

LossFunction = Callable[[int], tuple[Tensor, dict[str, float]]]


@dataclass(frozen=True)
class LoopOptions:
    """How long and how fast to train.

    Attributes:
        steps: in all, resumed ones included.
        learning_rate: peak, after `warmup_steps`; over the last `decay_share` of the steps it falls to `final_share`.
        save_every_s: seconds between checkpoints.
        stop_after_s: stop, saved and resumable, after so many seconds of this run; None for no bound.
    """

    steps: int
    learning_rate: float
    warmup_steps: int = 200
    final_share: float = 0.02
    decay_share: float = 0.25
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    ema_decay: float = 0.999
    save_every_s: float = 120.0
    report_every: int = 100
    stop_after_s: float | None = None


def learning_rate_at(step: int, options: LoopOptions) -> float:
    """Linear warm-up, constant, then linear down to the final share over the last part of the steps.

    The constant middle lets a run be prolonged without having guessed its length (Hu et al. 2024, arXiv 2404.06395).
    """
    if step < options.warmup_steps:
        return options.learning_rate * (step + 1) / options.warmup_steps
    decay_steps = max(1.0, options.decay_share * options.steps)
    left = min(1.0, (options.steps - step) / decay_steps)
    return options.learning_rate * (options.final_share + (1 - options.final_share) * left)


def averaged_state(checkpoint: Path) -> dict[str, Tensor]:
    """Read the averaged weights of a checkpoint."""
    state: dict[str, Tensor] = torch.load(checkpoint, weights_only=True, map_location="cpu")["ema"]
    return state


def steps_done(checkpoint: Path) -> int:
    """How many steps a checkpoint has behind it; 0 where there is none."""
    return int(torch.load(checkpoint, weights_only=True)["step"]) if checkpoint.exists() else 0


def run_averaged(module: nn.Module, loss_of: LossFunction, options: LoopOptions, checkpoint: Path, name: str) -> bool:
    """`run`, and leave the averaged weights in `module`; return whether the end was reached."""
    done = run(module, loss_of, options, checkpoint, name)
    module.load_state_dict(averaged_state(checkpoint))
    return done


def run(module: nn.Module, loss_of: LossFunction, options: LoopOptions, checkpoint: Path, name: str) -> bool:
    """Train `module` until `options.steps`, resuming from `checkpoint`; return whether the end was reached.

    Args:
        loss_of: step -> (loss, figures to report); all its randomness must come from the step, so that a resumed
            run goes on as if it had never stopped.

    Raises:
        FloatingPointError: a loss is not finite.
    """
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(
        trained, lr=options.learning_rate, weight_decay=options.weight_decay, betas=(0.9, 0.98)
    )
    ema = {key: value.detach().clone() for key, value in module.state_dict().items()}
    step = 0
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True, map_location="cpu")
        module.load_state_dict(saved["model"])
        optimiser.load_state_dict(saved["optimiser"])
        ema, step = {k: v.to(ema[k]) for k, v in saved["ema"].items()}, saved["step"]

    def save() -> None:
        with atomic_path(checkpoint) as temporary:
            torch.save(
                {"model": module.state_dict(), "optimiser": optimiser.state_dict(), "ema": ema, "step": step},
                temporary,
            )

    began = saved_at = time.monotonic()
    first, counted = step, 0
    sums: dict[str, float] = {}
    module.train()
    while step < options.steps:
        for group in optimiser.param_groups:
            group["lr"] = learning_rate_at(step, options)
        loss, figures = loss_of(step)
        if not torch.isfinite(loss):
            raise FloatingPointError(f"{name}: the loss of step {step} is {loss.item()}")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), options.clip_norm)
        optimiser.step()
        step += 1
        decay = min(options.ema_decay, (1 + step) / (10 + step))
        for key, value in module.state_dict().items():
            ema[key].lerp_(value.to(ema[key]), 1 - decay)
        for key, figure in figures.items():
            sums[key] = sums.get(key, 0.0) + figure
        counted += 1
        now = time.monotonic()
        if step % options.report_every == 0 or step == options.steps:
            means = "  ".join(f"{key} {total / counted:.4f}" for key, total in sums.items())
            left_min = (now - began) / (step - first) * (options.steps - step) / 60
            print(f"{name} {step}/{options.steps}  {means}  {left_min:.0f} min left", flush=True)
            sums, counted = {}, 0
        if now - saved_at > options.save_every_s:
            save()
            saved_at = now
        if options.stop_after_s is not None and now - began > options.stop_after_s:
            break
    save()
    return step >= options.steps
