"""What a structure encoder takes, by hand."""

import numpy as np
import pytest

from sam3d_objects.mesh import Mesh, occupancy_grid


def box(low: float, high: float) -> Mesh:
    """A closed cube in object coordinates, outward winding."""
    corners = np.array([[x, y, z] for x in (low, high) for y in (low, high) for z in (low, high)])
    faces = [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1]]
    faces += [[2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]]
    return Mesh(corners, np.array(faces))


def test_occupancy_of_a_box_by_hand() -> None:
    """The box spans cells 4 to 11 of 16 in each axis, plus a third of the next cells."""
    third = 1 / 16 / 3
    solid = occupancy_grid(box(-0.25, 0.25 + third), 16, "solid")
    assert solid.dtype == np.float32 and solid.shape == (16, 16, 16)
    assert solid[4:12, 4:12, 4:12].min() == 1.0
    assert solid[12, 8, 8] == pytest.approx(1 / 3) and solid[12, 12, 12] == pytest.approx(1 / 27)
    assert solid.sum() == pytest.approx((8 + 1 / 3) ** 3, rel=1e-5)
    surface = occupancy_grid(box(-0.24, 0.24), 16, "surface")
    assert set(np.unique(surface)) == {0.0, 1.0}
    assert surface.sum() == 8**3 - 6**3
