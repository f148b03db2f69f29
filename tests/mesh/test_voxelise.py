"""Voxelise: boxes by hand, unions, cavities, rays through edges and vertices, no touched voxel missed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from sam3d_objects.mesh import Mesh, inside, object_grid_affine, solid_fraction, surface_voxels
from tests.mesh.shapes import SCANS, box, joined, rotation, scan_affine, sphere

EMPTY = Mesh(np.zeros((0, 3)), np.zeros((0, 3), dtype=np.int64))


def test_a_box_fills_the_voxels_whose_centres_it_holds() -> None:
    filled = inside(box((0.5, 1.2, 1.9), (3.5, 2.9, 4.1)), np.eye(4), (6, 6, 6))
    expected = np.zeros((6, 6, 6), dtype=bool)
    expected[1:4, 2:3, 2:5] = True
    np.testing.assert_array_equal(filled, expected)


def test_supersampling_gives_the_share_worked_by_hand() -> None:
    # The sub-samples of voxel 1 lie at 0.75 and 1.25; the box ends at 1.0 along each axis.
    fraction = solid_fraction(box((-0.5, -0.5, -0.5), (1.0, 1.0, 1.0)), np.eye(4), (3, 3, 3), supersample=2)
    assert fraction.dtype == np.float32
    assert fraction[0, 0, 0] == 1 and fraction[1, 0, 0] == 0.5 and fraction[1, 1, 0] == 0.25
    assert fraction[1, 1, 1] == 0.125 and fraction[2].max() == 0


@pytest.mark.parametrize("kind", SCANS)
def test_a_sphere_keeps_its_volume_on_every_grid(kind: str) -> None:
    affine = scan_affine(kind)
    affine[:3, 3] = -affine[:3, :3] @ [20, 16, 5]
    ball = sphere(9.0, step=0.5)
    fraction = solid_fraction(ball, affine, (41, 33, 11), supersample=3)
    volume = fraction.sum() * abs(np.linalg.det(affine[:3, :3]))
    assert volume == pytest.approx(ball.volume, rel=0.01)
    centers = np.moveaxis(np.indices((41, 33, 11)), 0, -1) @ affine[:3, :3].T + affine[:3, 3]
    distance = np.linalg.norm(centers, axis=-1) - 9.0
    clear = np.abs(distance) > 0.05
    np.testing.assert_array_equal(inside(ball, affine, (41, 33, 11))[clear], distance[clear] < 0)


def test_overlapping_parts_are_a_union_and_an_inner_reversed_surface_a_cavity() -> None:
    outer = box((-0.4, -0.4, -0.4), (7.4, 7.4, 7.4))
    union = joined(box((0.6, 0.6, 0.6), (4.4, 4.4, 4.4)), box((2.6, 2.6, 2.6), (6.4, 6.4, 6.4)))
    assert inside(union, np.eye(4), (8, 8, 8)).sum() == 4**3 + 4**3 - 2**3
    hollow = joined(outer, box((1.6, 1.6, 1.6), (4.4, 4.4, 4.4)).flipped())
    assert inside(hollow, np.eye(4), (8, 8, 8)).sum() == 8**3 - 3**3


def test_winding_need_not_be_outward() -> None:
    cube = box((0.6, 0.6, 0.6), (2.4, 2.4, 2.4))
    np.testing.assert_array_equal(
        inside(cube, np.eye(4), (4, 4, 4)), inside(cube.flipped(), np.eye(4), (4, 4, 4))
    )


def test_rays_through_vertices_edges_and_faces_that_stand_upright_do_not_leak() -> None:
    # An octahedron with its vertices, edges and silhouette on voxel centres: every ray is a degenerate one.
    points = 4.0 + 3.0 * np.concatenate([np.eye(3), -np.eye(3)])
    faces = [[0, 1, 2], [1, 3, 2], [3, 4, 2], [4, 0, 2], [1, 0, 5], [3, 1, 5], [4, 3, 5], [0, 4, 5]]
    octahedron = Mesh(points, np.array(faces))
    assert octahedron.volume == pytest.approx(36)
    filled = inside(octahedron, np.eye(4), (9, 9, 9))
    distance = np.abs(np.indices((9, 9, 9)) - 4).sum(axis=0)
    assert filled[distance < 3].all() and not filled[distance > 3].any()
    aligned = inside(box((1, 1, 1), (4, 4, 4)), np.eye(4), (6, 6, 6))
    assert aligned.sum() == 27  # half-open: one of each pair of faces counts


@settings(max_examples=40, deadline=None)
@given(
    corners=st.lists(st.tuples(*[st.integers(0, 6)] * 3), min_size=4, max_size=4),
    turn=st.integers(0, 3),
)
def test_integer_tetrahedra_never_leak(corners: list[tuple[int, int, int]], turn: int) -> None:
    points = np.array(corners, dtype=np.float64)
    faces = np.roll([[0, 1, 2], [0, 3, 1], [1, 3, 2], [2, 3, 0]], turn, axis=1)
    filled = inside(Mesh(points, faces), np.eye(4), (7, 7, 7))
    low, high = points.min(axis=0), points.max(axis=0)
    cells = np.argwhere(filled)
    assert ((cells >= low) & (cells <= high)).all()


def test_only_the_part_of_the_mesh_that_is_on_the_grid_counts() -> None:
    slab = box((-50.0, 0.6, -50.0), (50.0, 2.4, 50.0))
    filled = inside(slab, np.eye(4), (5, 5, 5))
    assert filled[:, 1:3].all() and filled.sum() == 50
    assert not inside(box((90, 90, 90), (95, 95, 95)), np.eye(4), (5, 5, 5)).any()


def test_an_open_mesh_is_refused_and_an_empty_one_holds_nothing() -> None:
    cube = box((0.6, 0.6, 0.6), (3.4, 3.4, 3.4))
    with pytest.raises(ValueError, match=r"mesh is open .*non-zero winding"):
        inside(Mesh(cube.vertices, cube.faces[1:]), np.eye(4), (5, 5, 5))
    assert not inside(EMPTY, np.eye(4), (3, 4, 5)).any()
    with pytest.raises(ValueError, match="three sizes"):
        solid_fraction(cube, np.eye(4), (5, 5))
    with pytest.raises(ValueError, match="supersample above 0"):
        solid_fraction(cube, np.eye(4), (5, 5, 5), supersample=0)


def test_object_grid_affine_gives_cell_centres() -> None:
    affine = object_grid_affine(4)
    np.testing.assert_allclose(affine @ [0, 1, 3, 1], [-0.375, -0.125, 0.375, 1])
    unit = box((-0.5, -0.5, -0.5), (0.5, 0.5, 0.5))
    assert inside(unit, affine, (4, 4, 4)).all()


def test_no_voxel_that_the_surface_crosses_is_missed_and_none_is_made_up() -> None:
    resolution = 24
    mesh = sphere(0.43, step=0.13).transformed(np.block([[rotation(), np.zeros((3, 1))], [np.zeros(3), 1.0]]))
    voxels = {tuple(voxel) for voxel in surface_voxels(mesh, resolution).tolist()}
    steps = 40  # barycentric lattice: neighbouring points lie within 1 / 40 of an edge, about 0.04 voxel
    first, second = np.array([(a, b) for a in range(steps + 1) for b in range(steps + 1 - a)]).T / steps
    weights = np.stack([first, second, 1 - first - second], axis=1)
    points = (np.einsum("nc,fcd->fnd", weights, mesh.triangles).reshape(-1, 3) + 0.5) * resolution
    crossed = {tuple(voxel) for voxel in np.unique(np.floor(points).astype(int), axis=0).tolist()}
    assert crossed <= voxels
    edges = mesh.triangles - np.roll(mesh.triangles, 1, axis=1)
    gap = np.linalg.norm(edges, axis=2).max() * resolution / steps
    # What the lattice missed is grazed: a lattice point lies a gap away from the voxel.
    extra = np.array(sorted(voxels - crossed)) + 0.5
    assert (cKDTree(points).query(extra, p=np.inf)[0] - 0.5 <= gap).all()
    assert len(extra) < 0.05 * len(voxels)


def test_surface_voxels_of_one_triangle_are_those_worked_by_hand() -> None:
    # In voxels of a 4^3 grid: the triangle (0.5, 0.5), (2.5, 0.5), (0.5, 2.5) at height 1.5.
    points = np.array([[0.5, 0.5, 1.5], [2.5, 0.5, 1.5], [0.5, 2.5, 1.5]]) / 4 - 0.5
    voxels = surface_voxels(Mesh(points, np.array([[0, 1, 2]])), 4)
    # Its long side x + y = 3 passes through the corners (2, 1) and (1, 2): voxel (2, 1) is just touched.
    expected = [[0, 0, 1], [0, 1, 1], [0, 2, 1], [1, 0, 1], [1, 1, 1], [1, 2, 1], [2, 0, 1], [2, 1, 1]]
    np.testing.assert_array_equal(voxels, expected)
    assert voxels.dtype == np.int32


def test_surface_voxels_of_large_triangles_stay_thin() -> None:
    voxels = surface_voxels(box((-0.5, -0.5, -0.5), (0.5, 0.5, 0.5)), 60)
    assert len(voxels) == 60**3 - 58**3
    assert (np.diff(np.ravel_multi_index(tuple(voxels.T), (60,) * 3)) > 0).all()


def test_chunks_of_candidates_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = sphere(0.4, step=0.2)
    whole = surface_voxels(mesh, 20)
    monkeypatch.setattr("sam3d_objects.mesh.voxelise._CHUNK_PAIRS", 50)
    np.testing.assert_array_equal(surface_voxels(mesh, 20), whole)


def test_points_beyond_the_box_are_clamped_and_an_empty_mesh_touches_nothing() -> None:
    voxels = surface_voxels(box((-0.9, -0.1, -0.1), (0.9, 0.1, 0.1)), 16)
    assert voxels.min() >= 0 and voxels[:, 0].max() == 15
    assert surface_voxels(EMPTY, 16).shape == (0, 3)
