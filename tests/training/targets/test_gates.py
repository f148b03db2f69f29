"""The gates: who is refused, by name, and that they can be opened."""

import math

import pytest

from sam3d_objects.training.targets import check_distances, check_targets


def test_the_gate_names_what_is_under_the_bar() -> None:
    ious = [("a/egg/0", 0.9), ("b/egg/0", 0.4), ("c/egg/0", 0.2)]
    check_targets(ious, 0.0)
    check_targets(ious[:1], 0.9)
    with pytest.raises(ValueError, match=r"2 shapes .* under 0.50: c/egg/0 \(0.20\), b/egg/0 \(0.40\)"):
        check_targets(ious, 0.5)


def test_the_gate_names_what_is_decoded_elsewhere() -> None:
    distances = [("a/egg/0", 0.001), ("b/egg/0", 0.02), ("c/egg/0", math.inf)]
    check_distances(distances, 0.0)
    check_distances(distances[:1], 0.001)
    with pytest.raises(ValueError, match=r"2 shapes .* over 1.00 % .*: c/egg/0 \(inf\), b/egg/0 \(2.00\)"):
        check_distances(distances, 0.01)


def test_a_long_list_is_cut() -> None:
    with pytest.raises(ValueError, match=r"25 shapes .* s19/egg/0 \(0.10\) and 5 more"):
        check_targets([(f"s{i:02}/egg/0", 0.1) for i in range(25)], 0.5)
