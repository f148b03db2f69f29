"""Move and scale a sample so that its cut through the slice agrees with the mask that was given.

The fit sees the mask and the sample, nothing else. Letters: K samples, N mask pixels.
"""

import numpy as np
import torch
from torch import Tensor

from sam3d_objects.arrays import BoolArray
from sam3d_objects.mesh import RAS_TO_LPS, ObjectFrame
from sam3d_objects.reconstruct.field import PlacedSolid
from sam3d_objects.volume import SlicePlane

STEPS = 60
LEARNING_RATE = 0.02
# Steps that end small, and a floor under Adam's division, let the fit settle: with constant steps it kept swinging, and
# a rounding error in the model (as merging an adapter makes) came out as .3 mm and .001 to .03 of Dice.
ADAM_EPS = 1e-3
# What the model leaves open: standard deviations of in-plane place, through-plane place (shares of the size), log size.
PRIOR_STD = (0.10, 0.10, 0.04, 0.06)
PRIOR_WEIGHT = 0.02
# A sample counts by its agreement with the mask to this power: what the slice contradicts is an unlikely answer.
AGREEMENT_POWER = 10
LEAST_AGREEMENT = 1e-3


def fit_to_mask(
    samples: list[PlacedSolid], mask: BoolArray, plane: SlicePlane, scale: bool = True
) -> list[PlacedSolid]:
    """Fit each of K samples to a mask (rows, cols) by translation and, unless `scale` is False, scale.

    Maximises the soft Dice of the sample's cut with the mask, less a penalty that keeps the change within what the
    model's own pose leaves open. A sample whose cut misses the mask altogether is moved by the penalty's gradient
    only, that is, not at all.

    The returned samples are weighted by the soft Dice that they end with, to the power AGREEMENT_POWER.
    """
    points = torch.from_numpy(plane.grid_mm().reshape(-1, 3)).float()
    inside = torch.from_numpy(np.ascontiguousarray(mask).reshape(-1)).float()
    fields = torch.from_numpy(np.stack([s.field for s in samples])).float()[:, None]
    centers = torch.from_numpy(np.stack([s.frame.center_mm for s in samples])).float()
    sizes = torch.tensor([s.frame.size_mm for s in samples])
    axes = torch.from_numpy(plane.camera_axes.copy()).float()
    change = torch.zeros(len(samples), 4, requires_grad=True)
    optimiser = torch.optim.Adam([change], lr=LEARNING_RATE, eps=ADAM_EPS)
    settling = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: (1 - step / STEPS) ** 2)
    prior = torch.tensor(PRIOR_STD)
    free = torch.tensor([1.0, 1.0, 1.0, float(scale)])
    with torch.enable_grad():
        for _ in range(STEPS):
            optimiser.zero_grad()
            cut = cut_fields(fields, points, *_moved(centers, sizes, axes, change * free))
            loss = (1 - _soft_dice(cut, inside) + PRIOR_WEIGHT * (change / prior).square().sum(1)).sum()
            loss.backward()
            optimiser.step()
            settling.step()
    moved, scaled = _moved(centers, sizes, axes, change.detach() * free)
    agreement = _soft_dice(cut_fields(fields, points, moved, scaled), inside).clamp(min=LEAST_AGREEMENT)
    weights = agreement.double() ** AGREEMENT_POWER
    return [
        PlacedSolid(sample.field, ObjectFrame(center.double().numpy(), float(size)), float(weight))
        for sample, center, size, weight in zip(samples, moved, scaled, weights, strict=True)
    ]


def _soft_dice(cut: Tensor, inside: Tensor) -> Tensor:
    """Soft Dice (K,) of K cuts (K, N) with a mask (N,)."""
    return 2 * (cut * inside).sum(1) / (cut.sum(1) + inside.sum() + 1e-6)


def _moved(centers: Tensor, sizes: Tensor, axes: Tensor, change: Tensor) -> tuple[Tensor, Tensor]:
    """Apply (K, 4) changes (camera x, y, z in sizes; log size) to centres (K, 3) and sizes (K,)."""
    return centers + (change[:, :3] * sizes[:, None]) @ axes, sizes * change[:, 3].exp()


def cut_fields(fields: Tensor, points_mm: Tensor, centers: Tensor, sizes: Tensor) -> Tensor:
    """Sample K fields (K, 1, R, R, R) at N patient points (N, 3); returns (K, N), 0 outside the cube."""
    lps = torch.tensor(RAS_TO_LPS.diagonal().copy(), dtype=torch.float32)
    unit = (points_mm[None] - centers[:, None]) * lps / sizes[:, None, None] * 2  # the cube is [-1, 1]
    # grid_sample wants (x, y, z) = (last axis, ..., first axis); cell centres lie half a cell inside the cube.
    grid = unit.flip(-1)[:, :, None, None]
    sampled = torch.nn.functional.grid_sample(fields, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return sampled[:, 0, :, 0, 0]
