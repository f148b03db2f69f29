"""Export: exact to float32 both ways, the space named in the file, and nothing half written or half read."""

import io
from pathlib import Path

import numpy as np
import pytest
import trimesh

from sam3d_objects.mesh import Mesh, export_mesh, import_mesh, read_mesh_file
from sam3d_objects.mesh.export import SPACES, SUFFIXES
from tests.mesh.shapes import sphere

UPRIGHT = np.array([[-1.0, 0, 0], [0, 0, 1], [0, 1, 0]])  # glTF's x left, y superior, z anterior, of RAS


@pytest.fixture(scope="module")
def ball() -> Mesh:
    """A small sphere away from the origin."""
    matrix = np.eye(4)
    matrix[:3, 3] = 31.25, -87.1, 140.7
    return sphere(4.0, step=1.0).transformed(matrix)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_mesh_comes_back_exact_to_float32_and_closed(suffix: str, space: str, ball: Mesh, tmp_path: Path) -> None:
    path = tmp_path / f"organ{suffix}"
    export_mesh(path, ball, space)
    back = import_mesh(path)
    np.testing.assert_array_equal(back.triangles, ball.triangles.astype(np.float32))
    assert back.is_watertight and len(back.vertices) == len(ball.vertices)
    assert back.volume == pytest.approx(ball.volume, rel=1e-5)
    assert read_mesh_file(path).space == space
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_file_names_its_space_as_slicer_reads_it_and_lps_unless_asked(
    suffix: str, ball: Mesh, tmp_path: Path
) -> None:
    path = tmp_path / f"organ{suffix}"
    export_mesh(path, ball)
    without = path.read_bytes()
    for space in SPACES:
        export_mesh(path, ball, space)
        data = path.read_bytes()
        assert data.count(f"SPACE={space}".encode()) == 1 and f"{space} mm".encode() in data
        assert suffix == ".glb" or data.index(b"SPACE=") < 160
        assert (data == without) == (space == "LPS")


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("suffix", [".stl", ".ply", ".obj"])
def test_another_library_reads_the_triangles_in_the_space_that_was_asked_for(
    suffix: str, space: str, ball: Mesh, tmp_path: Path
) -> None:
    export_mesh(tmp_path / f"organ{suffix}", ball, space)
    other = trimesh.load_mesh(tmp_path / f"organ{suffix}", process=False)
    signs = [-1, -1, 1] if space == "LPS" else [1, 1, 1]
    np.testing.assert_allclose(np.asarray(other.triangles), ball.triangles * signs, atol=2e-5)
    assert other.volume == pytest.approx(ball.volume, rel=1e-4)


def test_the_stl_is_binary_with_80_bytes_of_header_and_unit_normals(ball: Mesh, tmp_path: Path) -> None:
    export_mesh(tmp_path / "organ.stl", ball)
    data = (tmp_path / "organ.stl").read_bytes()
    assert len(data) == 84 + 50 * len(ball.faces)
    assert not data.startswith(b"solid")
    assert int.from_bytes(data[80:84], "little") == len(ball.faces)
    assert np.linalg.norm(np.frombuffer(data[84:96], "<f4")) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("space", ["LPS", "RAS"])
def test_a_glb_stands_the_patient_upright_in_metres_and_keeps_mm_of_its_space(
    space: str, ball: Mesh, tmp_path: Path
) -> None:
    export_mesh(tmp_path / "organ.glb", ball, space)
    scene = trimesh.load_scene(tmp_path / "organ.glb", process=False)
    shown = scene.to_mesh()
    np.testing.assert_allclose(shown.triangles, ball.triangles @ UPRIGHT.T / 1000, atol=1e-7)
    (stored,) = scene.geometry.values()
    signs = [-1, -1, 1] if space == "LPS" else [1, 1, 1]
    np.testing.assert_allclose(stored.triangles, ball.triangles * signs, atol=2e-5)
    assert stored.metadata["SPACE"] == space


def test_a_picture_hangs_upright_in_a_glb(tmp_path: Path) -> None:
    corners = np.array([[0.0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3]])  # x right, y down, z away from the viewer
    export_mesh(tmp_path / "x.glb", Mesh(corners, np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]])), "image")
    shown = trimesh.load_scene(tmp_path / "x.glb", process=False).to_mesh()
    np.testing.assert_allclose(shown.vertices * 1000, corners * [1, -1, -1], atol=1e-6)
    assert shown.volume == pytest.approx(1e-9)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.995])
def test_a_truncated_file_is_refused_by_name(suffix: str, share: float, ball: Mesh, tmp_path: Path) -> None:
    path = tmp_path / f"organ{suffix}"
    export_mesh(path, ball, scalars={"spread_mm": np.ones(len(ball.vertices))})
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ValueError, match=f"organ{suffix}: not a mesh"):
        import_mesh(path)


def test_what_is_not_ours_to_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.stl").write_text("solid organ\nendsolid organ\n" * 9)
    (tmp_path / "text.ply").write_text("ply\nformat ascii 1.0\nelement vertex 0\nend_header\n")
    (tmp_path / "text.vtk").write_text("# vtk DataFile Version 3.0\nx\nASCII\nDATASET POLYDATA\nPOINTS 0 float\n")
    (tmp_path / "grid.vtk").write_text("# vtk DataFile Version 3.0\nx\nBINARY\nDATASET STRUCTURED_POINTS\n")
    (tmp_path / "words.glb").write_bytes(b"glTF" + (2).to_bytes(4, "little") + (24).to_bytes(4, "little") + b"x" * 12)
    (tmp_path / "empty.glb").write_bytes(trimesh.exchange.gltf.export_glb(trimesh.Scene()))
    (tmp_path / "quads.obj").write_text("v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nf 1 2 3 4\n")
    (tmp_path / "words.obj").write_text("v a b c\nf 1 1 1\n")
    (tmp_path / "beyond.obj").write_text("v 0 0 0\nv 1 0 0\nv 1 1 0\nf 1 2 9\n")
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(ValueError, match=path.name):
            import_mesh(path)
    with pytest.raises(FileNotFoundError):
        import_mesh(tmp_path / "missing.stl")


@pytest.mark.parametrize("suffix", [".stl", ".ply", ".obj"])
def test_a_file_of_another_program_that_names_no_space_is_lps_as_to_slicer(
    suffix: str, ball: Mesh, tmp_path: Path
) -> None:
    path = tmp_path / f"other{suffix}"
    body = trimesh.Trimesh(ball.vertices * [-1, -1, 1], ball.faces, process=False)
    body.export(path)
    np.testing.assert_allclose(import_mesh(path).triangles, ball.triangles, atol=1e-5)


def test_an_obj_with_normals_is_read(tmp_path: Path) -> None:
    path = tmp_path / "other.obj"
    path.write_text("# other\nvn 0 0 1\nv 0 0 0\nv 1 0 0\nv 0 1 0\nf 1//1 2//1 3//1\n")
    assert import_mesh(path).area == pytest.approx(0.5)


def test_a_glb_of_another_program_is_read_where_its_nodes_put_it(ball: Mesh, tmp_path: Path) -> None:
    body = trimesh.Trimesh(ball.vertices @ UPRIGHT.T / 1000, ball.faces, process=False)
    aside, mirror = np.eye(4), np.diag([-1.0, 1, 1, 1])
    aside[0, 3] = 0.1  # 10 cm to the patient's left
    scene = trimesh.Scene()
    scene.add_geometry(body, geom_name="ball", transform=aside)
    scene.add_geometry(body, geom_name="other", transform=mirror)
    (tmp_path / "other.glb").write_bytes(trimesh.exchange.gltf.export_glb(scene))
    back = import_mesh(tmp_path / "other.glb")
    half = len(ball.faces)
    np.testing.assert_allclose(back.triangles[:half], ball.triangles - [100, 0, 0], atol=1e-4)
    np.testing.assert_allclose(back.triangles[half:, :, 0].max(), -ball.bounds[0, 0], atol=1e-4)
    assert back.volume == pytest.approx(2 * ball.volume, rel=1e-4)  # a mirrored node does not turn it inside out


def test_bad_requests_write_nothing_and_keep_what_was_there(ball: Mesh, tmp_path: Path) -> None:
    path = tmp_path / "organ.stl"
    path.write_bytes(b"older")
    empty = Mesh(np.zeros((0, 3)), np.zeros((0, 3), dtype=np.int64))
    with pytest.raises(ValueError, match="the mesh is empty"):
        export_mesh(path, empty)
    with pytest.raises(ValueError, match=r"organ\.stl: expected a space of LPS, RAS, image, got 'MNI'"):
        export_mesh(path, ball, "MNI")
    with pytest.raises(ValueError, match=r"ends in \.stl, \.ply, \.obj, \.glb, \.vtk"):
        export_mesh(tmp_path / "organ.vtp", ball)
    assert path.read_bytes() == b"older"
    assert [file.name for file in tmp_path.iterdir()] == ["organ.stl"]


def test_vertices_that_no_face_uses_do_no_harm(ball: Mesh, tmp_path: Path) -> None:
    loose = Mesh(np.concatenate([ball.vertices, [[0.0, 0, 0]]]), ball.faces)
    for suffix in SUFFIXES:
        export_mesh(tmp_path / f"organ{suffix}", loose, scalars={"spread_mm": np.ones(len(loose.vertices))})
        np.testing.assert_allclose(import_mesh(tmp_path / f"organ{suffix}").bounds, ball.bounds, atol=1e-5)


def test_a_glb_is_what_its_specification_asks_for(ball: Mesh, tmp_path: Path) -> None:
    export_mesh(tmp_path / "organ.glb", ball)
    data = (tmp_path / "organ.glb").read_bytes()
    assert len(data) % 4 == 0
    scene = trimesh.load_scene(io.BytesIO(data), file_type="glb", process=False)
    (stored,) = scene.geometry.values()
    np.testing.assert_allclose(np.linalg.norm(stored.vertex_normals, axis=1), 1, atol=1e-6)
    # Without a material glTF's surfaces are metal, which is black where nothing is mirrored.
    assert stored.visual.material.metallicFactor == 0
