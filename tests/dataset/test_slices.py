"""Which slices are trained and scored on."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from sam3d_objects.dataset import Manifest, PreparedCase, evaluation_slices
from sam3d_objects.dataset.slices import seeded_generator, slice_areas, slice_weights
from sam3d_objects.volume import PLANES


@pytest.fixture
def case(prepared: Path) -> PreparedCase:
    return PreparedCase(prepared, Manifest.load(prepared).cases[0])


def test_weights_are_the_areas_from_a_quarter_of_the_largest_on() -> None:
    np.testing.assert_allclose(slice_weights(np.array([24, 25, 100, 0, 75])), [0, 0.125, 0.5, 0, 0.375])


def test_areas_by_hand(case: PreparedCase) -> None:
    mask = case.native_label("organ").voxels
    for axis, plane_name in enumerate(("sagittal", "coronal", "axial")):
        first, areas = slice_areas(case, "organ", plane_name)
        counts = mask.sum(axis=tuple(other for other in range(3) if other != axis))
        assert first == np.flatnonzero(counts)[0]
        np.testing.assert_array_equal(areas, counts[counts > 0])


def test_evaluation_takes_the_largest_and_another_large_one(case: PreparedCase) -> None:
    mask = case.native_label("organ")
    axes = {"sagittal": 0, "coronal": 1, "axial": 2}
    chosen = evaluation_slices(case, "organ", seed=3)
    assert [item[:2] for item in chosen] == [(name, kind) for name in PLANES for kind in ("largest", "random")]
    for plane_name in PLANES:
        axis = axes[plane_name]
        counts = mask.voxels.sum(axis=tuple(other for other in range(3) if other != axis))
        largest, random = (index for name, _, index in chosen if name == plane_name)
        assert counts[largest] == counts.max()
        assert random != largest
        assert counts[random] >= counts.max() / 4
        assert case.slice("organ", plane_name, random).mask.sum() == counts[random]


def test_a_seed_fixes_the_random_slice_and_seeds_reach_all(case: PreparedCase) -> None:
    assert evaluation_slices(case, "organ", seed=1) == evaluation_slices(case, "organ", seed=1)
    _, areas = slice_areas(case, "organ", "axial")
    seen = Counter(evaluation_slices(case, "organ", seed, ["axial"])[1][2] for seed in range(200))
    assert len(seen) == (areas >= areas.max() / 4).sum() - 1


def test_a_generator_is_the_same_in_every_process() -> None:
    assert seeded_generator("warp", 0, "case", 1).integers(1 << 62) == 4485104268532495623
