"""Learning rate: linear warm-up, then half a cosine (Loshchilov and Hutter, arXiv 1608.03983)."""

import math


def lr_factor(step: int, warmup_steps: int, total_steps: int, floor: float = 0.0) -> float:
    """Return the factor on the base learning rate for optimiser step `step` (the first is 0).

    It climbs linearly over `warmup_steps`, the first step already above zero, reaches 1, and falls along a
    cosine to `floor` at `total_steps`. It is a function of the step alone, so it needs no state in a
    checkpoint.
    """
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    progress = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))
