"""The benchmark of metric speed on two small pairs: everybody measures the same, and ratios are worked by hand."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.metric_speed import MASK_METRICS, WAYS, Pair, ratios, real_pairs, seconds_of

# surface-distance calls scipy by names that scipy has deprecated, MONAI itself.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:monai:FutureWarning")
pytest.importorskip("surface_distance", reason="surface-distance is a development dependency: pip install .[dev]")


def pair() -> Pair:
    truth = np.zeros((14, 12, 10), dtype=bool)
    truth[3:10, 3:9, 2:8] = True
    return Pair("shifted", np.roll(truth, 1, axis=0), truth)


def test_every_way_is_timed() -> None:
    seconds = seconds_of(pair(), repeats=1)
    assert list(seconds) == list(WAYS) == ["ours", "MONAI", "surface-distance"]
    assert min(seconds.values()) > 0
    for way in WAYS.values():
        assert tuple(way(pair())()) == MASK_METRICS


def test_ratios_by_hand() -> None:
    seconds = [
        {"ours": 1.0, "MONAI": 6.0, "surface-distance": 2.0},
        {"ours": 3.0, "MONAI": 6.0, "surface-distance": 12.0},
    ]
    assert ratios(seconds)["MONAI"] == {"median_ratio": 4.0, "lowest_ratio": 2.0, "set_ratio": 3.0}
    assert ratios(seconds)["surface-distance"] == {"median_ratio": 3.0, "lowest_ratio": 2.0, "set_ratio": 3.5}


def test_pairs_of_hippocampi(shared_data: Path) -> None:
    labels = sorted((shared_data / "Task04_Hippocampus" / "labelsTr").glob("*.nii.gz"))
    pairs = real_pairs(labels, 8)
    assert [one.kind for one in pairs] == ["shifted", "eroded", "another patient's", "dilated"] * 2
    for one in pairs:
        assert one.prediction.shape == one.truth.shape and one.prediction.dtype == one.truth.dtype == bool
        assert one.prediction.any() and one.truth.any() and (one.prediction != one.truth).any()
    assert not (pairs[1].prediction & ~pairs[1].truth).any() and not (pairs[3].truth & ~pairs[3].prediction).any()
    with pytest.raises(ValueError, match="at least 20 label files"):
        real_pairs(labels[:3])
