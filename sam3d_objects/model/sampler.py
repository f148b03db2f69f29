"""Integration of a flow from noise (t = 0) to data (t = 1), with classifier-free guidance.

Latents are dictionaries of tensors, (B, T, c) or, packed, (N, c). A network is called as `network(x, t, condition, d)`
with x in the condition's dtype, and t and d (1,) already times 1000. Between its calls the latents keep the dtype of
the noise, so that small steps are not lost in half precision.
"""

from collections.abc import Callable, Mapping
from itertools import pairwise

import torch
from torch import Tensor

TIME_SCALE = 1000.0
Latents = dict[str, Tensor]
Velocity = Callable[[Latents, Tensor, Tensor, Tensor | None], Latents]
VelocityAt = Callable[[Latents, float], Latents]


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

    def velocity(tokens: Tensor) -> Latents:
        seen = {name: value.to(tokens.dtype) for name, value in x.items()}
        return {name: value.to(some.dtype) for name, value in network(seen, network_t, tokens, network_d).items()}

    given = velocity(condition)
    if strength == 0 or interval is None or not interval[0] <= float(network_t) <= interval[1]:
        return given
    free = velocity(condition * 0)
    return {name: (1 + strength) * given[name] - strength * free[name] for name in given}


def _moved(x: Latents, velocity: Latents, by: float) -> Latents:
    return {name: x[name] + velocity[name] * by for name in x}


def _euler(velocity: VelocityAt, x: Latents, start: float, stop: float) -> Latents:
    return _moved(x, velocity(x, start), stop - start)


def _midpoint(velocity: VelocityAt, x: Latents, start: float, stop: float) -> Latents:
    step = stop - start
    halfway = _moved(x, velocity(x, start), step / 2)
    return _moved(x, velocity(halfway, start + step / 2), step)


def _rk4(velocity: VelocityAt, x: Latents, start: float, stop: float) -> Latents:
    step = stop - start
    first = velocity(x, start)
    second = velocity(_moved(x, first, step / 2), start + step / 2)
    third = velocity(_moved(x, second, step / 2), start + step / 2)
    fourth = velocity(_moved(x, third, step), stop)
    mean = {name: (first[name] + 2 * second[name] + 2 * third[name] + fourth[name]) / 6 for name in x}
    return _moved(x, mean, step)


# Butcher 2016, "Numerical Methods for Ordinary Differential Equations": 1, 2 and 4 calls a step, as many orders.
SOLVERS: dict[str, Callable[[VelocityAt, Latents, float, float], Latents]] = {
    "euler": _euler,
    "midpoint": _midpoint,
    "rk4": _rk4,
}


def check_solver(name: str) -> None:
    """Raise ValueError where `name` is no solver."""
    if name not in SOLVERS:
        raise ValueError(f"the solver must be one of {sorted(SOLVERS)}, got {name!r}")


def integrate(
    network: Velocity,
    noise: Latents,
    condition: Tensor,
    steps: int,
    rescale: float = 1.0,
    strength: float = 0.0,
    interval: tuple[float, float] | None = (0.0, 500.0),
    d: float | None = 0.0,
    solver: str = "euler",
) -> Latents:
    """Integrate from `noise` to data in the given number of steps.

    Args:
        network: the velocity.
        noise: latents (B, T, c) or (N, c), best in float32; the result has their dtype.
        condition: tokens (B, S, C) in the network's dtype.
        steps, rescale: see `time_steps`; strength, interval: see `guided`.
        d: the shortcut model's step size (0: the plain velocity; 1 / steps: a distilled model); None leaves it out.
        solver: 'euler' (the release's), 'midpoint' or 'rk4'.

    Raises:
        ValueError: an unknown solver, or less than one step.
    """
    check_solver(solver)
    step = SOLVERS[solver]

    def velocity(x: Latents, t: float) -> Latents:
        return guided(network, x, t, condition, d, strength, interval)

    x = dict(noise)
    for start, stop in pairwise(time_steps(steps, rescale).tolist()):
        x = step(velocity, x, start, stop)
    return x
