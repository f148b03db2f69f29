"""What the mesh decoder says at the corners of its cubes, against the true signed distance there.

Letters: A corners. True distances d are in fine cubes (object units x R), negative inside. A decoder's scalars s are
negative inside too, and need not be distances: s / scale is near d in cubes where `calibrated_scale` gave the scale.
"""

import torch
from torch import Tensor

SHARPNESS = 4.0  # logit of a distance of one cube; pretraining of the tiny decoder had the same soft targets
CLAMP_CUBES = 3.0  # farther from the surface a distance says nothing about where the surface is


def sign_loss(scalars: Tensor, distances_cubes: Tensor, scale: float = 1.0, sharpness: float = SHARPNESS) -> Tensor:
    """Binary cross-entropy of inside and outside, soft near the surface: a scalar.

    Mean of -q log p - (1 - q) log (1 - p) with p = sigmoid(-k s / scale) and q = sigmoid(-k d). A hard q would pull the
    corners of a well-placed surface away from zero, and with them the surface that is interpolated between them; with
    this one the least loss is at s = scale d, and on the wrong side the gradient never vanishes.

    Args:
        scalars: s (A,), before any sigmoid, negative inside.
        distances_cubes: d (A,).
        scale: of the scalars, above 0.
        sharpness: k, above 0.

    Raises:
        ValueError: there is no corner, or the shapes differ.
    """
    _check_corners(scalars, distances_cubes)
    inside = torch.sigmoid(-sharpness * distances_cubes).to(scalars.dtype)
    return torch.nn.functional.binary_cross_entropy_with_logits(-sharpness / scale * scalars, inside)


def clamped_sdf_loss(
    scalars: Tensor, distances_cubes: Tensor, scale: float, clamp_cubes: float = CLAMP_CUBES
) -> Tensor:
    """Mean |clamp(s / scale) - clamp(d)|, clamped to some cubes either way: a scalar (DeepSDF, Park et al. 2019).

    Only for a scale that `calibrated_scale` found on the frozen decoder: with another one this term stretches the field
    instead of moving the surface. A scalar beyond the clamp gets no gradient.

    Args:
        scalars: s (A,); distances_cubes: d (A,); scale: above 0; clamp_cubes: above 0.

    Raises:
        ValueError: there is no corner, or the shapes differ.
    """
    _check_corners(scalars, distances_cubes)
    found = (scalars / scale).clamp(-clamp_cubes, clamp_cubes)
    return (found - distances_cubes.to(scalars.dtype).clamp(-clamp_cubes, clamp_cubes)).abs().mean()


def calibrated_scale(scalars: Tensor, distances_cubes: Tensor, clamp_cubes: float = CLAMP_CUBES) -> float:
    """How large a decoder's scalars are for a distance of one cube: median |s| / median |d| where |d| < clamp.

    Args:
        scalars: s (A,) of the frozen decoder; distances_cubes: d (A,).

    Raises:
        ValueError: no corner is nearer to the surface than the clamp, or the scalars there are all zero.
    """
    _check_corners(scalars, distances_cubes)
    near = distances_cubes.abs() < clamp_cubes
    if not bool(near.any()):
        raise ValueError(f"no corner lies within {clamp_cubes:g} cubes of the surface: are the distances in cubes?")
    scale = float(scalars[near].abs().median()) / max(float(distances_cubes[near].abs().median()), 1e-12)
    if not scale > 0:
        raise ValueError("the decoder's scalars near the surface are all zero (or not finite): they have no scale")
    return scale


def _check_corners(scalars: Tensor, distances_cubes: Tensor) -> None:
    if scalars.shape != distances_cubes.shape or scalars.ndim != 1 or not len(scalars):
        shapes = f"{tuple(scalars.shape)} and {tuple(distances_cubes.shape)}"
        raise ValueError(f"expected scalars and distances of the same corners (A,), A at least 1, got {shapes}")
