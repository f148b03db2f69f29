"""Checks of plain values: what passes, and that an error names the key and what came."""

import math

import numpy as np
import pytest

from sam3d_objects.model.checks import check_mapping, check_number, check_numbers, check_whole


def test_what_passes() -> None:
    for whole in (1, 25, np.int64(3)):
        check_whole("steps", whole)
    for number in (0, -1.5, 1e300, np.float32(2)):
        check_number("guidance", number)
    check_numbers("mean", [0, -1.0], 2)
    check_numbers("std", (1, 0.5), 2, above=0)
    check_numbers("none", [], 0)
    check_mapping("pose", {"scale": 1})


@pytest.mark.parametrize("value", [0, -1, 1.0, 2.5, True, "3", None, [1], math.nan])
def test_what_is_no_whole_number(value: object) -> None:
    with pytest.raises(ValueError, match=r"steps must be a whole number from 1 on, got "):
        check_whole("steps", value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "1", None, True, [1.0]])
def test_what_is_no_number(value: object) -> None:
    with pytest.raises(ValueError, match=r"guidance must be a finite number, got "):
        check_number("guidance", value)
    with pytest.raises(ValueError, match=r"mean\[1\] must be a finite number, got "):
        check_numbers("mean", [0.0, value], 2)


def test_bounds_lengths_and_mappings() -> None:
    with pytest.raises(ValueError, match="rescale must be a finite number above 0, got 0"):
        check_number("rescale", 0, above=0)
    with pytest.raises(ValueError, match=r"std\[0\] must be a finite number above 0, got -1"):
        check_numbers("std", [-1, 1], 2, above=0)
    for values in ([1.0], 3, "ab", None):
        with pytest.raises(ValueError, match="mean: expected 2 numbers, got "):
            check_numbers("mean", values, 2)
    for value in (3, [1], {1: 2}):
        with pytest.raises(ValueError, match="pose must be a mapping with names as keys, got "):
            check_mapping("pose", value)
