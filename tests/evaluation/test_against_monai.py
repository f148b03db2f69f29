"""MONAI's surface metrics beside ours.

MONAI counts boundary voxels alike, whatever area they stand for, and measures between voxel centres; ours weigh corners
of voxels by area. On smooth solids the two lie within one voxel of each other.
"""

import numpy as np
import pytest

from sam3d_objects.arrays import BoolArray
from sam3d_objects.evaluation import METRICS, compare_masks
from sam3d_objects.evaluation.metrics import surface_dice
from tests.evaluation.solids import ball_mask, grid

# MONAI calls parts of itself by names that it has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:monai:FutureWarning", "ignore:the prediction:UserWarning")
torch = pytest.importorskip("torch")
metrics = pytest.importorskip("monai.metrics")

SPACING_MM = (1.0, 1.0, 2.0)
AFFINE = grid(40, SPACING_MM)
BALL = ball_mask(14.0, 40, AFFINE)


def batched(mask: BoolArray) -> object:
    return torch.from_numpy(mask)[None, None].float()


@pytest.mark.parametrize(
    "other",
    [
        ball_mask(14.0, 40, AFFINE, (4.0, 0.0, 0.0)),
        ball_mask(10.0, 40, AFFINE),
        ball_mask(14.0, 40, AFFINE, (0.0, 3.0, 6.0)),
        ball_mask(14.0, 40, AFFINE) & (np.indices((40, 40, 40))[0] > 14),
    ],
)
def test_within_a_voxel_of_monai(other: BoolArray) -> None:
    ours = compare_masks(other, BALL, AFFINE)
    pair = {"y_pred": batched(other), "y": batched(BALL), "include_background": True, "spacing": SPACING_MM}
    hd95 = metrics.compute_hausdorff_distance(**pair, percentile=95).item()
    assd = metrics.compute_average_surface_distance(**pair, symmetric=True).item()
    near = metrics.compute_surface_dice(**pair, class_thresholds=[2.0], use_subvoxels=True).item()
    assert METRICS["hd95_mm"].of(ours) == pytest.approx(hd95, abs=max(SPACING_MM))
    assert METRICS["assd_mm"].of(ours) == pytest.approx(assd, abs=max(SPACING_MM) / 2)
    assert METRICS["dice"].of(ours) == pytest.approx(metrics.compute_dice(batched(other), batched(BALL)).item())
    # With sub-voxels MONAI weighs by area as well, from surface-distance's table: no difference is left.
    assert METRICS["surface_dice_2mm"].of(ours) == pytest.approx(near, abs=1e-5)


def test_areas_are_those_of_surface_distance_for_every_code() -> None:
    one, two = (np.random.default_rng(seed).random((20, 20, 20)) > 0.5 for seed in (0, 1))
    near = metrics.compute_surface_dice(
        batched(one), batched(two), [0.5], include_background=True, spacing=SPACING_MM, use_subvoxels=True
    )
    assert surface_dice(compare_masks(one, two, AFFINE), 0.5) == pytest.approx(near.item(), abs=1e-3)


def test_an_empty_prediction_is_counted_where_monai_leaves_it_out() -> None:
    nothing = np.zeros_like(BALL)
    assert METRICS["hd95_mm"].of(compare_masks(nothing, BALL, AFFINE)) == float("inf")
    monai = metrics.compute_hausdorff_distance(batched(nothing), batched(BALL), include_background=True)
    assert not np.isfinite(monai.item())  # NaN or infinity: its mean over cases then drops the case
