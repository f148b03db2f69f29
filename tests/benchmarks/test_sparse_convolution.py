"""The benchmark of the sparse convolution, run on a small grid: its ways agree."""

import pytest

from benchmarks.sparse_convolution import WAYS, measure, measure_map


def test_all_ways_give_the_same() -> None:
    forward, dense_forward, both, dense_both = (measure(way, resolution=12, channels=4, repeats=1) for way in WAYS)
    for other in (dense_forward, both, dense_both):
        assert other["out"] == pytest.approx(forward["out"], rel=1e-5)
    assert both["gradient"] == pytest.approx(dense_both["gradient"], rel=1e-5)
    assert both["gradient"] > 0


def test_the_map_of_a_shell() -> None:
    found = measure_map(resolution=24, repeats=1)
    assert 9 < found["taps"] < 16
    assert 0 < found["map_mib"] < 1
