"""Times of the flow, spread evenly over the quantiles of a logit-normal distribution."""

import torch
from torch import Tensor


def logit_normal_quantiles(quantiles: Tensor, mean: float, std: float) -> Tensor:
    """Return the times (n,) in (0, 1) at the given quantiles (n,) in (0, 1): logit(t) ~ N(mean, std)."""
    return torch.sigmoid(mean + std * torch.special.ndtri(quantiles))


def stratified_times(count: int, mean: float, std: float, generator: torch.Generator) -> Tensor:
    """Draw times (count,), one in each of `count` equally likely intervals, in random order.

    Each time alone is logit-normal (Esser et al. 2024, arXiv 2403.03206); together they cover the path
    evenly, so that the loss of a small batch varies less.
    """
    ranks = torch.randperm(count, generator=generator)
    within = torch.rand(count, generator=generator, dtype=torch.float64).clamp(1e-6, 1 - 1e-6)
    return logit_normal_quantiles((ranks + within) / count, mean, std).float()


def even_times(count: int, mean: float, std: float) -> Tensor:
    """Return the times (count,) at the middles of `count` equally likely intervals, for validation."""
    middles = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    return logit_normal_quantiles(middles, mean, std).float()
