"""Export: exact to float32 both ways, the frame named in the file, and nothing half written or half read."""

from pathlib import Path

import numpy as np
import pytest
import trimesh

from sam3d_objects.mesh import Mesh, export_mesh, import_mesh
from tests.mesh.shapes import sphere

SUFFIXES = ("stl", "ply", "obj")


@pytest.fixture(scope="module")
def ball() -> Mesh:
    """A small sphere away from the origin."""
    matrix = np.eye(4)
    matrix[:3, 3] = 31.25, -87.1, 140.7
    return sphere(4.0, step=1.0).transformed(matrix)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_mesh_comes_back_exact_to_float32_and_closed(suffix: str, ball: Mesh, tmp_path: Path) -> None:
    path = tmp_path / f"organ.{suffix}"
    export_mesh(path, ball)
    back = import_mesh(path)
    np.testing.assert_array_equal(back.triangles, ball.triangles.astype(np.float32))
    assert back.is_watertight and len(back.vertices) == len(ball.vertices)
    assert back.volume == pytest.approx(ball.volume, rel=1e-5)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_another_library_reads_the_same_triangles(suffix: str, ball: Mesh, tmp_path: Path) -> None:
    export_mesh(tmp_path / f"organ.{suffix}", ball)
    other = trimesh.load_mesh(tmp_path / f"organ.{suffix}", process=False)
    np.testing.assert_allclose(np.asarray(other.triangles), ball.triangles, atol=2e-5)
    assert other.volume == pytest.approx(ball.volume, rel=1e-4)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_file_names_its_frame(suffix: str, ball: Mesh, tmp_path: Path) -> None:
    path = tmp_path / f"organ.{suffix}"
    for space in ("RAS", "LPS", "image"):
        export_mesh(path, ball, space)
        head = path.read_bytes()[:160]
        assert f"{space} mm".encode() in head and f"SPACE={space}".encode() in head
        np.testing.assert_array_equal(import_mesh(path).triangles, ball.triangles.astype(np.float32))


def test_the_stl_is_binary_with_80_bytes_of_header_and_unit_normals(ball: Mesh, tmp_path: Path) -> None:
    export_mesh(tmp_path / "organ.stl", ball)
    data = (tmp_path / "organ.stl").read_bytes()
    assert len(data) == 84 + 50 * len(ball.faces)
    assert not data.startswith(b"solid")
    assert int.from_bytes(data[80:84], "little") == len(ball.faces)
    assert np.linalg.norm(np.frombuffer(data[84:96], "<f4")) == pytest.approx(1, abs=1e-6)


def test_lps_files_hold_negated_x_and_y(ball: Mesh, tmp_path: Path) -> None:
    export_mesh(tmp_path / "organ.ply", ball, "LPS")
    other = trimesh.load_mesh(tmp_path / "organ.ply", process=False)
    np.testing.assert_allclose(np.asarray(other.vertices), ball.vertices * [-1, -1, 1], atol=2e-5)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.995])
def test_a_truncated_file_is_refused_by_name(suffix: str, share: float, ball: Mesh, tmp_path: Path) -> None:
    path = tmp_path / f"organ.{suffix}"
    export_mesh(path, ball)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ValueError, match=f"organ.{suffix}: not a mesh"):
        import_mesh(path)


def test_what_is_not_ours_to_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.stl").write_text("solid organ\nendsolid organ\n" * 9)
    (tmp_path / "text.ply").write_text("ply\nformat ascii 1.0\nelement vertex 0\nend_header\n")
    (tmp_path / "quads.obj").write_text("v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nf 1 2 3 4\n")
    (tmp_path / "words.obj").write_text("v a b c\nf 1 1 1\n")
    (tmp_path / "beyond.obj").write_text("v 0 0 0\nv 1 0 0\nv 1 1 0\nf 1 2 9\n")
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(ValueError, match=path.name):
            import_mesh(path)
    with pytest.raises(FileNotFoundError):
        import_mesh(tmp_path / "missing.stl")


def test_an_obj_of_another_program_is_read(tmp_path: Path) -> None:
    path = tmp_path / "other.obj"
    path.write_text("# other\nvn 0 0 1\nv 0 0 0\nv 1 0 0\nv 0 1 0\nf 1//1 2//1 3//1\n")
    assert import_mesh(path).area == pytest.approx(0.5)


def test_bad_requests_write_nothing_and_keep_what_was_there(ball: Mesh, tmp_path: Path) -> None:
    path = tmp_path / "organ.stl"
    path.write_bytes(b"older")
    empty = Mesh(np.zeros((0, 3)), np.zeros((0, 3), dtype=np.int64))
    with pytest.raises(ValueError, match="the mesh is empty"):
        export_mesh(path, empty)
    with pytest.raises(ValueError, match="expected a space of RAS, LPS, image, got 'MNI'"):
        export_mesh(path, ball, "MNI")
    with pytest.raises(ValueError, match=r"ends in \.stl, \.ply, \.obj"):
        export_mesh(tmp_path / "organ.vtk", ball)
    assert path.read_bytes() == b"older"
    assert [file.name for file in tmp_path.iterdir()] == ["organ.stl"]
