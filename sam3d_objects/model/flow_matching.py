"""The flow matching loss (Lipman et al. 2022, arXiv 2210.02747; Liu et al. 2022, arXiv 2209.03003).

x_t = (1 - t) noise + t data; the target velocity is data - noise; the network sees 1000 t. Latents are dictionaries of
tensors (B, T, c).
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from sam3d_objects.model.sampler import TIME_SCALE, Latents, Velocity

# The release's own config has shape weight 0, for it trained the pose stream last; these weights train both.
STRUCTURE_WEIGHTS = {
    "shape": 1.0,
    "6drotation_normalized": 0.1,
    "translation": 1.0,
    "scale": 1.0,
    "translation_scale": 0.0,
}


def logit_normal_times(batch: int, mean: float, std: float, generator: torch.Generator | None = None) -> Tensor:
    """Draw t (B,) in (0, 1) with logit(t) ~ N(mean, std) (Esser et al. 2024, arXiv 2403.03206)."""
    return torch.sigmoid(torch.randn(batch, generator=generator) * std + mean)


def noise_like(data: Latents, generator: torch.Generator | None = None) -> Latents:
    """Draw standard normal noise for latents, in the order of their names."""
    return {name: torch.randn(data[name].shape, generator=generator).to(data[name]) for name in sorted(data)}


def interpolate(noise: Latents, data: Latents, t: Tensor) -> Latents:
    """Return x_t = (1 - t) noise + t data for t (B,)."""
    weight = t[:, None, None]
    return {name: (1 - weight) * noise[name] + weight * data[name] for name in data}


def weighted_mse(predicted: Latents, target: Latents, weights: Mapping[str, float]) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the sum of weight x mean squared error over the latents, and each term."""
    parts = {
        name: weights[name] * torch.nn.functional.mse_loss(predicted[name], target[name]) for name in sorted(predicted)
    }
    return torch.stack(list(parts.values())).sum(), parts


def flow_matching_loss(
    network: Velocity,
    data: Latents,
    condition: Tensor,
    t: Tensor,
    noise: Latents,
    weights: Mapping[str, float] = STRUCTURE_WEIGHTS,
    d: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the loss and its weighted terms.

    Args:
        network: called as network(x_t, 1000 t, condition, 1000 d).
        data, noise: latents (B, T, c); t: (B,) in [0, 1]; condition: tokens (B, S, C).
        d: (B,) step sizes for a shortcut model; zeros where not given.
    """
    d = torch.zeros_like(t) if d is None else d
    x_t = interpolate(noise, data, t)
    velocity = network(x_t, t * TIME_SCALE, condition, d * TIME_SCALE)
    target = {name: data[name] - noise[name] for name in data}
    return weighted_mse(velocity, target, weights)
