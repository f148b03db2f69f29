"""Errors of samples whose place, size and shape are wrong by known amounts."""

from typing import cast

import numpy as np
import pytest

from benchmarks.oracles import Drawn
from benchmarks.sample_errors import errors_of, soft_dice, summary
from sam3d_objects.mesh import ObjectFrame
from sam3d_objects.reconstruct import PlacedSolid


class KnownCamera:
    """A camera whose axes are the patient's."""

    def to_camera(self, points: np.ndarray) -> np.ndarray:
        return np.asarray(points)


class Known:
    """Two samples of a half-filled box: one 3, 4 and 5 mm off and a quarter too large, the other off the other way."""

    camera = KnownCamera()
    frame = ObjectFrame(np.zeros(3), 40.0)
    occupancy = np.concatenate([np.ones((4, 8, 8)), np.zeros((4, 8, 8))])
    fitted = (
        PlacedSolid(occupancy, ObjectFrame(np.array([3.0, 4.0, 5.0]), 50.0), 3.0),
        PlacedSolid(occupancy[::-1], ObjectFrame(np.array([-3.0, -4.0, -5.0]), 32.0), 1.0),
    )


def test_errors_are_in_millimetres_and_means_are_weighted() -> None:
    found = errors_of(cast(Drawn, Known()))
    assert found["one in_plane_mm"] == pytest.approx(5) and found["all in_plane_mm"] == pytest.approx(2.5)
    assert found["one through_mm"] == pytest.approx(5) and found["all through_mm"] == pytest.approx(2.5)
    assert found["one size_percent"] == pytest.approx(25)
    assert found["all size_percent"] == pytest.approx(100 * (1.25**0.5 - 1))
    assert found["one shape_dice"] == pytest.approx(0.5)
    assert found["all shape_dice"] == 1.0, "the heavier sample's shape is right"


def test_dice_of_shares() -> None:
    half = np.full((2, 2, 2), 0.5)
    assert soft_dice(half, np.ones((2, 2, 2))) == pytest.approx(2 / 3)
    assert soft_dice(half, half) == 1.0


def test_the_table_has_a_row_for_each_plane_and_one_for_all() -> None:
    errors = errors_of(cast(Drawn, Known())) | {"mean organ": 0.75, "random organ": 0.5}
    worse = {name: 2 * value for name, value in errors.items()}
    found, text = summary([("axial", errors), ("coronal", worse)])
    assert list(found) == ["axial", "coronal", "all"]
    assert found["all"]["one through_mm"] == pytest.approx(7.5) and found["all"]["slices"] == 2
    assert "| coronal | 1 | 10.0 | 5.0 | 10.0 | 5.0 | 50.0 |" in text
