"""Mesh: figures of a cube by hand, winding under reflections, and what is refused."""

import numpy as np
import pytest

from sam3d_objects.mesh import Mesh
from tests.mesh.shapes import box, joined, rotation

EMPTY = Mesh(np.zeros((0, 3)), np.zeros((0, 3), dtype=np.int64))


def test_a_box_has_the_figures_worked_by_hand() -> None:
    mesh = box((10, 20, 30), (12, 23, 34))
    assert mesh.volume == pytest.approx(24)
    assert mesh.area == pytest.approx(2 * (6 + 8 + 12))
    np.testing.assert_array_equal(mesh.bounds, [[10, 20, 30], [12, 23, 34]])
    assert mesh.is_watertight
    assert mesh.vertices.dtype == np.float64 and mesh.faces.dtype == np.int64


def test_volume_changes_sign_with_the_winding() -> None:
    mesh = box((0, 0, 0), (1, 1, 1)).flipped()
    assert mesh.volume == pytest.approx(-1)
    assert mesh.is_watertight


@pytest.mark.parametrize("mirror", [1.0, -1.0])
def test_transform_keeps_normals_outward(mirror: float) -> None:
    matrix = np.eye(4)
    matrix[:3, :3] = rotation() * [2.0 * mirror, 3.0, 0.5]
    matrix[:3, 3] = 4, 5, 6
    moved = box((0, 0, 0), (1, 1, 1)).transformed(matrix)
    assert moved.volume == pytest.approx(3)
    np.testing.assert_allclose(moved.vertices[7], matrix[:3, :].sum(axis=1))


def test_an_open_or_inconsistent_mesh_is_not_watertight() -> None:
    cube = box((0, 0, 0), (1, 1, 1))
    faces = cube.faces.copy()
    assert not Mesh(cube.vertices, faces[1:]).is_watertight
    faces[0] = faces[0, ::-1]
    assert not Mesh(cube.vertices, faces).is_watertight


def test_bounds_leave_out_vertices_that_no_face_uses() -> None:
    cube = box((0, 0, 0), (1, 1, 1))
    stray = Mesh(np.vstack([cube.vertices, [[9.0, 9.0, 9.0]]]), cube.faces)
    np.testing.assert_array_equal(stray.bounds, [[0, 0, 0], [1, 1, 1]])


def test_vertex_normals_point_out_and_are_zero_without_a_face() -> None:
    mesh = box((-1, -1, -1), (1, 1, 1))
    normals = Mesh(np.vstack([mesh.vertices, [[5.0, 5.0, 5.0]]]), mesh.faces).vertex_normals()
    np.testing.assert_allclose(np.linalg.norm(normals[:8], axis=1), 1)
    assert (np.sign(normals[:8]) == mesh.vertices).all()
    np.testing.assert_array_equal(normals[8], 0)


def test_the_empty_mesh_is_nothing_and_has_no_bounds() -> None:
    assert EMPTY.is_empty and not EMPTY.is_watertight
    assert EMPTY.volume == 0 and EMPTY.area == 0
    with pytest.raises(ValueError, match="empty mesh has no bounds"):
        _ = EMPTY.bounds


def test_two_parts_are_one_watertight_mesh() -> None:
    pair = joined(box((0, 0, 0), (1, 1, 1)), box((3, 0, 0), (4, 1, 2)))
    assert pair.is_watertight
    assert pair.volume == pytest.approx(3)


@pytest.mark.parametrize(
    ("vertices", "faces", "message"),
    [
        (np.zeros((4, 2)), [[0, 1, 2]], "vertices: expected shape"),
        (np.zeros((4, 3)), [[0, 1, 2, 3]], "faces: expected shape"),
        (np.full((3, 3), np.nan), [[0, 1, 2]], "number 0 is"),
        (np.zeros((3, 3)), [[0, 1, 3]], r"indices in 0\.\.2, got 0\.\.3"),
        (np.zeros((3, 3)), [[-1, 1, 2]], r"got -1\.\.2"),
    ],
)
def test_what_is_no_mesh_is_refused(vertices: np.ndarray, faces: list[list[int]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Mesh(vertices, np.array(faces))


@pytest.mark.parametrize("matrix", [np.eye(3), np.zeros((4, 4)), np.full((4, 4), np.nan)])
def test_a_matrix_that_is_no_affine_is_refused(matrix: np.ndarray) -> None:
    with pytest.raises(ValueError, match="invertible 4x4 affine"):
        box((0, 0, 0), (1, 1, 1)).transformed(matrix)
