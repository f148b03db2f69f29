"""Numbers at the vertices: exact in .ply, .vtk and .glb, seen as colours, left out where there is no room."""

from pathlib import Path

import numpy as np
import pytest
import trimesh
from matplotlib import colormaps

from sam3d_objects.arrays import FloatArray
from sam3d_objects.mesh import Mesh, export_mesh, read_mesh_file
from sam3d_objects.mesh.export import SCALAR_SUFFIXES, SUFFIXES
from sam3d_objects.mesh.export.colours import colour_range, colours, linear_light
from tests.mesh.shapes import box

BOX = box((0, 0, 0), (1, 2, 3))
SPREAD_MM: FloatArray = np.linspace(0.0, 3.5, 8)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_numbers_come_back_where_the_format_has_room(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"organ{suffix}"
    export_mesh(path, BOX, scalars={"spread_mm": SPREAD_MM, "distance_mm": -SPREAD_MM})
    content = read_mesh_file(path)
    np.testing.assert_array_equal(content.patient_mesh.triangles, BOX.triangles)
    if suffix not in SCALAR_SUFFIXES:
        assert content.scalars == {}
        return
    np.testing.assert_array_equal(content.patient_mesh.vertices, BOX.vertices)
    assert list(content.scalars) == ["spread_mm", "distance_mm"]
    np.testing.assert_array_equal(content.scalars["spread_mm"], SPREAD_MM.astype(np.float32))
    np.testing.assert_array_equal(content.scalars["distance_mm"], -SPREAD_MM.astype(np.float32))


def test_a_ply_shows_the_first_number_as_colours_and_says_their_range(tmp_path: Path) -> None:
    export_mesh(tmp_path / "organ.ply", BOX, scalars={"spread_mm": SPREAD_MM})
    other = trimesh.load_mesh(tmp_path / "organ.ply", process=False)
    assert isinstance(other.visual, trimesh.visual.ColorVisuals)
    seen = np.asarray(other.visual.vertex_colors)[:, :3]
    viridis = colormaps["viridis"]
    np.testing.assert_array_equal(seen[[0, -1]], [viridis(0, bytes=True)[:3], viridis(255, bytes=True)[:3]])
    np.testing.assert_allclose(other.metadata["_ply_raw"]["vertex"]["data"]["spread_mm"], SPREAD_MM)
    assert b"comment colours: viridis, spread_mm from 0 to 3.5\n" in (tmp_path / "organ.ply").read_bytes()


def test_a_glb_shows_the_same_colours_in_linear_light(tmp_path: Path) -> None:
    export_mesh(tmp_path / "organ.glb", BOX, scalars={"spread_mm": SPREAD_MM})
    (stored,) = trimesh.load_scene(tmp_path / "organ.glb", process=False).geometry.values()
    np.testing.assert_array_equal(stored.visual.vertex_attributes["color"][:, :3], linear_light(colours(SPREAD_MM)))
    assert stored.metadata["colours"] == {"map": "viridis", "of": "spread_mm", "range": [0.0, 3.5]}


def test_linear_light_follows_the_standard() -> None:
    # IEC 61966-2-1: half of the light is level 188, and the curve is a line below level 10.
    np.testing.assert_array_equal(linear_light(np.array([[0, 188, 255]], dtype=np.uint8)), [[0, 128, 255]])


def test_the_range_starts_at_zero_and_one_number_alone_has_the_first_or_last_colour() -> None:
    assert colour_range(np.array([1.0, 2.0])) == (0.0, 2.0)
    assert colour_range(np.array([-1.0, -0.5])) == (-1.0, 0.0)
    first, last = (list(colormaps["viridis"](level, bytes=True)[:3]) for level in (0, 255))
    assert colours(np.zeros(2)).tolist() == [first, first]
    assert colours(np.full(2, 0.7)).tolist() == [last, last]


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("spread_mm", np.ones(7), r"spread_mm: expected a number for each of 8 vertices, got \(7,\)"),
        ("spread_mm", np.ones((8, 1)), r"got \(8, 1\)"),
        ("spread_mm", np.full(8, np.nan), "expected finite numbers, 8 are not"),
        ("red", np.ones(8), "a name with its unit, such as spread_mm, got 'red'"),
        ("spread mm\n", np.ones(8), "a name with its unit"),
    ],
)
def test_numbers_that_cannot_be_written_are_refused(
    name: str, values: FloatArray, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=f"organ.ply: .*{message}"):
        export_mesh(tmp_path / "organ.ply", BOX, scalars={name: values})
    assert list(tmp_path.iterdir()) == []


def test_a_vtk_file_is_what_its_format_says_byte_by_byte(tmp_path: Path) -> None:
    triangle = Mesh(np.array([[0.0, 0, 0], [1, 0, 0], [0, 2, 0]]), np.array([[0, 1, 2]]))
    export_mesh(tmp_path / "organ.vtk", triangle, "RAS", {"spread_mm": np.array([0.0, 1.0, -2.0])})
    one, two, minus_two, zero = b"\x3f\x80\0\0", b"\x40\0\0\0", b"\xc0\0\0\0", b"\0\0\0\0"
    assert (tmp_path / "organ.vtk").read_bytes() == b"".join(
        [
            b"# vtk DataFile Version 3.0\nsam3d-medical surface, RAS mm, SPACE=RAS\nBINARY\nDATASET POLYDATA\n",
            b"POINTS 3 float\n" + zero * 3 + one + zero * 3 + two + zero,
            b"\nPOLYGONS 1 4\n\0\0\0\x03\0\0\0\0\0\0\0\x01\0\0\0\x02",
            b"\nPOINT_DATA 3\nSCALARS spread_mm float 1\nLOOKUP_TABLE default\n" + zero + one + minus_two + b"\n",
        ]
    )
