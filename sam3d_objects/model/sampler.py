"""Euler integration of a flow from noise (t = 0) to data (t = 1), with classifier-free guidance.

Latents are dictionaries of tensors (B, T, c). A network is called as `network(x, t, condition, d)` with t and d (1,)
already times 1000.
"""

from collections.abc import Callable, Mapping
from itertools import pairwise

import torch
from torch import Tensor

TIME_SCALE = 1000.0
Latents = dict[str, Tensor]
Velocity = Callable[[Latents, Tensor, Tensor, Tensor | None], Latents]


def time_steps(steps: int, rescale: float) -> Tensor:
    """Return steps + 1 times (float64) from 0 to 1, warped by t / (1 + (r - 1)(1 - t))."""
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    t = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    return t / (1 + (rescale - 1) * (1 - t))


def draw_noise(shapes: Mapping[str, tuple[int, ...]], generator: torch.Generator | None) -> Latents:
    """Draw standard normal latents in the order of their names, as the release does."""
    return {name: torch.randn(shapes[name], generator=generator) for name in sorted(shapes)}


def guided(
    network: Velocity,
    x: Latents,
    t: float,
    condition: Tensor,
    d: float | None,
    strength: float,
    interval: tuple[float, float] | None,
) -> Latents:
    """Return (1 + s) v_cond - s v_uncond while 1000 t is within the interval (inclusive), v_cond elsewhere.

    Unconditional means condition tokens multiplied by 0. Without an interval, or at s = 0, there is no second call.
    """
    some = next(iter(x.values()))
    network_t = torch.tensor([t * TIME_SCALE], dtype=some.dtype, device=some.device)
    network_d = None if d is None else torch.full_like(network_t, d * TIME_SCALE)
    velocity = network(x, network_t, condition, network_d)
    if strength == 0 or interval is None or not interval[0] <= float(network_t) <= interval[1]:
        return velocity
    free = network(x, network_t, condition * 0, network_d)
    return {name: (1 + strength) * velocity[name] - strength * free[name] for name in velocity}


def euler(
    network: Velocity,
    noise: Latents,
    condition: Tensor,
    steps: int,
    rescale: float = 1.0,
    strength: float = 0.0,
    interval: tuple[float, float] | None = (0.0, 500.0),
    d: float | None = 0.0,
) -> Latents:
    """Integrate from `noise` (latents (B, T, c)) to data in the given number of steps.

    d is the shortcut model's step size (0: the plain velocity; 1 / steps: a distilled model); None leaves it out.
    """
    times = time_steps(steps, rescale).tolist()
    x = dict(noise)
    for start, stop in pairwise(times):
        velocity = guided(network, x, start, condition, d, strength, interval)
        x = {name: x[name] + velocity[name] * (stop - start) for name in x}
    return x
