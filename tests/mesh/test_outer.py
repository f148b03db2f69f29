"""The outer surface: inner walls and specks go, what stands beside stays as it is."""

import numpy as np
import pytest

from sam3d_objects.mesh import Mesh
from sam3d_objects.mesh.outer import outer_surface, winding_number
from tests.mesh.shapes import box, joined, sphere

OUTER = box((0, 0, 0), (10, 10, 10))
INNER = box((2, 2, 2), (8, 8, 8))


def moved(mesh: Mesh, by: tuple[float, float, float]) -> Mesh:
    return Mesh(mesh.vertices + np.array(by), mesh.faces)


def test_the_inner_wall_of_a_shell_goes() -> None:
    outer = outer_surface(joined(INNER.flipped(), OUTER))
    np.testing.assert_array_equal(outer.vertices, OUTER.vertices)
    np.testing.assert_array_equal(outer.faces, OUTER.faces)
    assert outer.volume == pytest.approx(1000)


def test_what_floats_in_the_cavity_goes_too() -> None:
    island = box((4, 4, 4), (6, 6, 6))
    outer = outer_surface(joined(island, OUTER, INNER.flipped()))
    np.testing.assert_array_equal(outer.vertices, OUTER.vertices)


def test_parts_side_by_side_stay() -> None:
    both = joined(OUTER, moved(INNER, (20, 0, 0)))
    outer = outer_surface(both)
    np.testing.assert_array_equal(outer.vertices, both.vertices)
    np.testing.assert_array_equal(outer.faces, both.faces)


def test_a_part_in_the_hollow_of_another_is_not_enclosed() -> None:
    # The bounding box of the C holds the part, the C itself does not.
    c = joined(box((0, 0, 0), (10, 2, 10)), box((0, 0, 0), (2, 10, 10)), box((0, 8, 0), (10, 10, 10)))
    c = Mesh(c.vertices, np.concatenate([c.faces, [[0, 8, 16]]]))  # one thin triangle joins the three boxes
    part = box((4, 4, 4), (6, 6, 6))
    assert len(outer_surface(joined(c, part)).faces) == len(c.faces) + len(part.faces)


def test_specks_below_a_hundredth_of_the_largest_volume_go() -> None:
    speck, kept = box((20, 0, 0), (22, 2, 2)), box((30, 0, 0), (33, 2, 2))  # 8 and 12 of 1000
    outer = outer_surface(joined(speck, OUTER, kept))
    assert outer.volume == pytest.approx(1012)


def test_a_sphere_shell_keeps_its_outer_volume() -> None:
    shell = joined(sphere(1.0), sphere(0.8).flipped())
    assert outer_surface(shell).volume == pytest.approx(sphere(1.0).volume)


def test_an_open_outer_wall_still_encloses() -> None:
    opened = Mesh(OUTER.vertices, OUTER.faces[:-1])
    assert len(outer_surface(joined(opened, INNER.flipped())).faces) == 11


def test_unused_vertices_go_and_nothing_stays_nothing() -> None:
    assert len(outer_surface(Mesh(np.zeros((4, 3)), np.zeros((0, 3), dtype=np.int64))).vertices) == 0
    extra = Mesh(np.concatenate([OUTER.vertices, [[99.0, 99, 99]]]), OUTER.faces)
    np.testing.assert_array_equal(outer_surface(extra).vertices, OUTER.vertices)


def test_winding_number_of_a_box() -> None:
    assert winding_number(OUTER.triangles, np.array([5.0, 5, 5])) == pytest.approx(1)
    assert winding_number(OUTER.triangles, np.array([12.0, 5, 5])) == pytest.approx(0, abs=1e-12)
    assert winding_number(OUTER.flipped().triangles, np.array([1.0, 2, 3])) == pytest.approx(-1)
    # From the middle, each of the six sides is a sixth of the sphere.
    open_box = Mesh(OUTER.vertices, OUTER.faces[2:])
    assert winding_number(open_box.triangles, np.array([5.0, 5, 5])) == pytest.approx(5 / 6)
