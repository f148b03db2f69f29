"""surface-distance beside ours: one definition, so the numbers agree to rounding wherever it has one.

Differences, and why:
- ASSD: it gives the two directed means; ours is the mean over the area of both surfaces, which follows from them.
- Empty masks: its release 0.1 says `np.Inf`, which numpy 2 no longer has, and ends in an AttributeError; where it did
  run, distances were infinite, as ours are. Both empty: its means are NaN, its HD95 infinite; ours are all NaN.
- Of codes of four voxels, some are ambiguous; both take the surface of the same table, so that nothing differs.
"""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.metric_speed import MASK_METRICS, Pair, of_monai, of_surface_distance, ours, real_pairs
from sam3d_objects.arrays import BoolArray
from sam3d_objects.evaluation import METRICS, compare_masks
from tests.evaluation.solids import ball_mask, grid

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:monai:FutureWarning")
surface_distance = pytest.importorskip(
    "surface_distance", reason="surface-distance is a development dependency: pip install .[dev]"
)


def blob(seed: int, shape: tuple[int, int, int] = (24, 20, 16)) -> BoolArray:
    """Smooth noise above its middle: several parts, holes, touching the border."""
    from scipy import ndimage

    noise = np.random.default_rng(seed).normal(size=shape)
    return np.asarray(ndimage.gaussian_filter(noise, 2.0) > 0)


def theirs(prediction: BoolArray, truth: BoolArray, spacing_mm: tuple[float, float, float]) -> dict[str, float]:
    found = surface_distance.compute_surface_distances(truth, prediction, spacing_mm)
    means = surface_distance.compute_average_surface_distance(found)
    areas = found["surfel_areas_gt"].sum(), found["surfel_areas_pred"].sum()
    return {
        "hd95_mm": surface_distance.compute_robust_hausdorff(found, 95),
        "assd_mm": float(np.average(means, weights=areas)),
        "surface_dice_1mm": surface_distance.compute_surface_dice_at_tolerance(found, 1.0),
        "surface_dice_2mm": surface_distance.compute_surface_dice_at_tolerance(found, 2.0),
        "dice": surface_distance.compute_dice_coefficient(truth, prediction),
    }


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (0.7, 0.9, 3.0), (2.5, 0.5, 1.1)])
@pytest.mark.parametrize("seed", [0, 2])
def test_random_blobs_on_anisotropic_grids(seed: int, spacing_mm: tuple[float, float, float]) -> None:
    prediction, truth = blob(seed), blob(seed + 1)
    comparison = compare_masks(prediction, truth, np.diag([*spacing_mm, 1.0]))
    for name, expected in theirs(prediction, truth, spacing_mm).items():
        assert METRICS[name].of(comparison) == pytest.approx(expected, abs=1e-9), name


def test_far_apart_and_at_the_border() -> None:
    prediction, truth = np.zeros((40, 8, 8), dtype=bool), np.zeros((40, 8, 8), dtype=bool)
    prediction[:2], truth[38:, :, 3] = True, True
    comparison = compare_masks(prediction, truth, np.diag([1.0, 2.0, 0.5, 1.0]))
    for name, expected in theirs(prediction, truth, (1.0, 2.0, 0.5)).items():
        assert METRICS[name].of(comparison) == pytest.approx(expected, abs=1e-9), name


@pytest.mark.skipif(np.lib.NumpyVersion(np.__version__) < "2.0.0", reason="numpy 1 still has np.Inf")
def test_an_empty_mask_is_infinitely_far_where_surface_distance_ends_in_an_error() -> None:
    ball, nothing = ball_mask(6.0, 16, grid(16)), np.zeros((16,) * 3, dtype=bool)
    with pytest.raises(AttributeError, match=r"np\.Inf"):
        theirs(nothing, ball, (1.0, 1.0, 1.0))
    comparison = compare_masks(nothing, ball, np.eye(4))
    assert METRICS["hd95_mm"].of(comparison) == METRICS["assd_mm"].of(comparison) == float("inf")
    assert METRICS["surface_dice_2mm"].of(comparison) == METRICS["dice"].of(comparison) == 0.0


class TestRealPairs:
    """Twenty hippocampi beside themselves shifted, eroded or dilated, and beside other patients."""

    @pytest.fixture(scope="class")
    def pairs(self, shared_data: Path) -> list[Pair]:
        return real_pairs(sorted((shared_data / "Task04_Hippocampus" / "labelsTr").glob("*.nii.gz")))

    def test_surface_distance_agrees_to_rounding(self, pairs: list[Pair]) -> None:
        assert len(pairs) == 20
        for pair in pairs:
            mine, other = ours(pair)(), of_surface_distance(pair)()
            assert tuple(mine) == MASK_METRICS
            assert mine == pytest.approx(other, abs=1e-9), pair.kind

    def test_monai_agrees_where_it_means_the_same(self, pairs: list[Pair]) -> None:
        """Overlaps and, with sub-voxels, surface Dice are one definition.

        HD95 and ASSD are not: MONAI takes the centres of boundary voxels, each for as much as any other; our elements
        are the corners around a boundary, which lie on both of its sides where it slants, so that the nearest one is
        up to half a voxel nearer. And MONAI interpolates its percentile.
        """
        for pair in pairs:
            mine, other = ours(pair)(), of_monai(pair)()
            for name in ("dice", "iou", "surface_dice_1mm", "surface_dice_2mm", "volume_error_percent"):
                assert mine[name] == pytest.approx(other[name], rel=1e-5, abs=1e-5), (pair.kind, name)
            assert -1.0 < mine["hd95_mm"] - other["hd95_mm"] < 1e-5, pair.kind
            assert -0.5 < mine["assd_mm"] - other["assd_mm"] < 0.0, pair.kind
