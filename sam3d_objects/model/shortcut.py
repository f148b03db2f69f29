"""The self-consistency (shortcut) loss: one step of size 2d should go where two steps of size d go.

Frans et al. 2024, "One Step Diffusion via Shortcut Models" (arXiv 2410.12557). Latents are dictionaries (B, T, c).
"""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from sam3d_objects.model.flow_matching import STRUCTURE_WEIGHTS, interpolate, weighted_mse
from sam3d_objects.model.sampler import TIME_SCALE, Latents, Velocity

SMALLEST_POWER = 7


def draw_step_sizes(batch: int, generator: torch.Generator | None = None) -> Tensor:
    """Draw the student's step sizes 2d (B,), powers of two from 2^0 to 2^-7; d is half of each."""
    powers = torch.randint(0, SMALLEST_POWER + 1, (batch,), generator=generator)
    return 2.0**-powers


@torch.no_grad()
def self_consistency_target(
    teacher: Velocity,
    x_t: Latents,
    t: Tensor,
    d: Tensor,
    condition: Tensor,
    guided_rows: Tensor,
    strength: float = 2.0,
    guided_latents: Collection[str] = ("shape",),
) -> Latents:
    """Return the mean of the teacher's velocities at (x_t, t) and (x_t + d v, t + d), without gradient.

    Args:
        t, d: (B,) in [0, 1]; condition: (B, S, C).
        guided_rows: (B,) bool, which rows the teacher is guided in, with (1 + s) v_cond - s v_uncond.
        guided_latents: which latents guidance applies to; the others keep v_cond.
    """

    def velocity(x: Latents, time: Tensor) -> Latents:
        conditional = teacher(x, time * TIME_SCALE, condition, d * TIME_SCALE)
        if not guided_rows.any():
            return conditional
        rows = _rows(x, guided_rows)
        times = time[guided_rows] * TIME_SCALE, d[guided_rows] * TIME_SCALE
        free = teacher(rows, times[0], condition[guided_rows] * 0, times[1])
        out = {name: value.clone() for name, value in conditional.items()}
        for name in guided_latents:
            out[name][guided_rows] = (1 + strength) * conditional[name][guided_rows] - strength * free[name]
        return out

    first = velocity(x_t, t)
    second = velocity({name: x_t[name] + d[:, None, None] * first[name] for name in x_t}, t + d)
    return {name: (first[name] + second[name]) / 2 for name in first}


def shortcut_loss(
    network: Velocity,
    data: Latents,
    condition: Tensor,
    student_condition: Tensor,
    t: Tensor,
    noise: Latents,
    d: Tensor,
    guided_rows: Tensor,
    weights: Mapping[str, float] = STRUCTURE_WEIGHTS,
    strength: float = 2.0,
    guided_latents: Collection[str] = ("shape",),
    weight: float = 1.0,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the loss of one batch and its two terms `flow_matching` and `self_consistency`.

    Rows with d = 0 are flow matching rows; the student sees 2d in all of them. Each term is the mean over its rows.

    Args:
        data, noise: latents (B, T, c); t, d: (B,); guided_rows: (B,) bool, teacher guidance.
        condition: what the teacher sees (B, S, C); student_condition: the student's, with dropped rows as zeros.
        weight: of the self-consistency term.
    """
    x_t = interpolate(noise, data, t)
    student = network(x_t, t * TIME_SCALE, student_condition, 2 * d * TIME_SCALE)
    consistent = d > 0
    terms = {name: t.new_zeros(()) for name in ("flow_matching", "self_consistency")}
    if not consistent.all():
        target = {name: data[name] - noise[name] for name in data}
        terms["flow_matching"] = weighted_mse(_rows(student, ~consistent), _rows(target, ~consistent), weights)[0]
    if consistent.any():
        target = self_consistency_target(
            network,
            _rows(x_t, consistent),
            t[consistent],
            d[consistent],
            condition[consistent],
            guided_rows[consistent],
            strength,
            guided_latents,
        )
        terms["self_consistency"] = weighted_mse(_rows(student, consistent), target, weights)[0]
    return terms["flow_matching"] + weight * terms["self_consistency"], terms


def _rows(latents: Latents, rows: Tensor) -> Latents:
    """Keep the rows of a mask (B,) bool."""
    return {name: value[rows] for name, value in latents.items()}
