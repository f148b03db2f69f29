"""Winding numbers worked by hand: overlaps, inside-out parts, cavities, slabs, crossings."""

import numpy as np
import pytest

from sam3d_objects.mesh import Mesh, solid_fraction
from sam3d_objects.mesh.winding import grid_windings, lines_met, used_bounds, windings
from tests.mesh.shapes import SCANS, box, joined, scan_affine, sphere

GRID = (8, 8, 8)
CUBE = box((0.5, 0.5, 0.5), (4.5, 4.5, 4.5))  # holds 4^3 centres


def test_one_solid_winds_once() -> None:
    found = windings(CUBE, np.eye(4), GRID)
    assert (found.outward, found.repeated, found.inverted) == (64, 0, 0)
    np.testing.assert_array_equal(found.fraction, solid_fraction(CUBE, np.eye(4), GRID))
    assert found.fraction.dtype == np.float32


def test_overlapping_solids_are_a_union_whose_overlap_is_counted() -> None:
    found = windings(joined(CUBE, box((2.5, 2.5, 2.5), (6.5, 6.5, 6.5))), np.eye(4), GRID)
    assert (found.outward, found.repeated, found.inverted) == (64 + 64 - 8, 8, 0)
    assert found.fraction.sum() == 120


def test_what_is_inside_out_holds_nothing() -> None:
    found = windings(joined(CUBE, box((5.5, 5.5, 5.5), (6.5, 6.5, 7.5)).flipped()), np.eye(4), GRID)
    assert (found.outward, found.repeated, found.inverted) == (64, 0, 2)
    assert found.fraction.sum() == 64


def test_a_cavity_is_no_crossing() -> None:
    found = windings(joined(CUBE, box((1.5, 1.5, 1.5), (3.5, 3.5, 3.5)).flipped()), np.eye(4), GRID)
    assert (found.outward, found.repeated, found.inverted) == (64 - 8, 0, 0)


def test_every_crossing_of_two_sheets_shows() -> None:
    """A prism over the outline of an 8: one loop winds once, the other the other way."""
    outline = np.array([[0.6, 0.6], [6.4, 6.4], [0.6, 6.4], [6.4, 0.6]])
    low, high = (np.column_stack([outline, np.full(4, z)]) for z in (0.6, 4.4))
    sides = [face for a, b in ((0, 1), (1, 2), (2, 3), (3, 0)) for face in ((a, b, b + 4), (a, b + 4, a + 4))]
    lids = [(0, 2, 1), (0, 3, 2), (4, 5, 6), (4, 6, 7)]
    eight = Mesh(np.concatenate([low, high]), np.array(sides + lids))
    assert eight.is_watertight and eight.volume == pytest.approx(0)
    found = windings(eight, np.eye(4), GRID, supersample=3)
    loop = 27 * (5.8 * 2.9 / 2) * 3.8  # points in a triangle times its height
    assert found.outward == pytest.approx(loop, rel=0.2) and found.inverted == pytest.approx(loop, rel=0.2)


@pytest.mark.parametrize("kind", SCANS)
def test_outward_stays_outward_on_every_grid(kind: str) -> None:
    affine = scan_affine(kind)
    affine[:3, 3] = -affine[:3, :3] @ [20, 16, 5]
    found = windings(sphere(9.0, step=0.6), affine, (41, 33, 11), supersample=2)
    assert found.inverted == found.repeated == 0
    assert found.outward / 8 * abs(np.linalg.det(affine[:3, :3])) == pytest.approx(4 / 3 * np.pi * 9**3, rel=0.02)


@pytest.mark.parametrize("name", ["_SLAB_POINTS", "_CHUNK_PAIRS"])
def test_slabs_and_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    mesh = joined(sphere(0.9, step=0.2).transformed(np.diag([3.0, 3.0, 3.0, 1.0])), CUBE)
    affine = np.eye(4)
    affine[:3, 3] = -4
    whole = windings(mesh, affine, (10, 10, 10), 2)
    monkeypatch.setattr(f"sam3d_objects.mesh.winding.{name}", 40)
    parts = windings(mesh, affine, (10, 10, 10), 2)
    np.testing.assert_array_equal(whole.fraction, parts.fraction)
    assert (whole.outward, whole.repeated) == (parts.outward, parts.repeated)
    if name == "_SLAB_POINTS":
        assert len({place[0].start for place, _ in grid_windings(mesh, affine, (10, 10, 10))}) > 3


def test_an_open_mesh_is_refused() -> None:
    with pytest.raises(ValueError, match="mesh is open"):
        windings(Mesh(CUBE.vertices, CUBE.faces[1:]), np.eye(4), GRID)


def test_lines_and_bounds_of_one_triangle() -> None:
    vertices = np.array([[0.5, 1.0, 9.0], [2.5, 1.0, 0.0], [0.5, 3.2, 0.0], [-50.0, 50.0, 0.0]])
    faces = np.array([[0, 1, 2]])
    low, high = lines_met(vertices, faces)
    assert low.tolist() == [[1, 1]] and high.tolist() == [[2, 3]]
    assert used_bounds(vertices, faces).tolist() == [[0.5, 1.0, 0.0], [2.5, 3.2, 9.0]]
