"""Export: meshes as binary STL, binary PLY or OBJ with the frame named in the file, and back.

Files hold float32 coordinates in mm. The header or comment has `SPACE=RAS` (or LPS), which 3D Slicer reads;
without it, Slicer would take a file for LPS.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from sam3d_objects.arrays import FloatArray
from sam3d_objects.files import atomic_path
from sam3d_objects.mesh.frame import RAS_TO_LPS
from sam3d_objects.mesh.mesh import Mesh

SPACES = ("RAS", "LPS", "image")
SUFFIXES = (".stl", ".ply", ".obj")
_STL_FACE = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
_PLY_FACE = np.dtype([("count", "u1"), ("corners", "<i4", 3)])
_OBJ_END = "# end"  # text states no length: without this line a file of ours was cut off
_PLY_LAYOUT = [
    "format binary_little_endian 1.0",
    r"element vertex (\d+)",
    "property float x",
    "property float y",
    "property float z",
    r"element face (\d+)",
    "property list uchar int vertex_indices",
]


def _suffix(path: Path) -> str:
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{path}: expected a file name that ends in {', '.join(SUFFIXES)}")
    return path.suffix.lower()


def export_mesh(path: str | Path, mesh: Mesh, space: str = "RAS") -> None:
    """Write a mesh in the format of the file's suffix; the file appears whole or not at all.

    Args:
        path: ends in .stl (binary), .ply (binary) or .obj.
        mesh: in patient mm (RAS), or in image-frame mm for the space "image"; not empty.
        space: "RAS"; "LPS", for which x and y change sign in the file; or "image", where no patient frame
            is known.

    Raises:
        ValueError: on another suffix or space, or when the mesh is empty.
    """
    target = Path(path)
    suffix = _suffix(target)
    if space not in SPACES:
        raise ValueError(f"{target}: expected a space of {', '.join(SPACES)}, got {space!r}")
    if mesh.is_empty:
        raise ValueError(f"{target}: the mesh is empty, nothing is written")
    written = mesh.vertices @ RAS_TO_LPS if space == "LPS" else mesh.vertices
    points = written.astype("<f4")
    note = f"sam3d-medical surface, {space} mm, SPACE={space}"
    write = {".stl": _stl_bytes, ".ply": _ply_bytes, ".obj": _obj_bytes}[suffix]
    data = write(Mesh(points, mesh.faces), note)
    with atomic_path(target) as temporary:
        temporary.write_bytes(data)


def _stl_bytes(mesh: Mesh, note: str) -> bytes:
    faces = np.zeros(len(mesh.faces), dtype=_STL_FACE)
    cross = mesh.cross
    length = np.linalg.norm(cross, axis=1, keepdims=True)
    faces["normal"] = np.divide(cross, length, out=np.zeros_like(cross), where=length > 0)
    faces["corners"] = mesh.triangles
    return note.encode("ascii").ljust(80) + np.uint32(len(faces)).astype("<u4").tobytes() + faces.tobytes()


def _ply_bytes(mesh: Mesh, note: str) -> bytes:
    faces = np.zeros(len(mesh.faces), dtype=_PLY_FACE)
    faces["count"] = 3
    faces["corners"] = mesh.faces
    layout = [line.replace(r"(\d+)", "{}") for line in _PLY_LAYOUT]
    header = "\n".join(["ply", layout[0], f"comment {note}", *layout[1:], "end_header", ""])
    text = header.format(len(mesh.vertices), len(faces))
    return text.encode("ascii") + mesh.vertices.astype("<f4").tobytes() + faces.tobytes()


def _obj_bytes(mesh: Mesh, note: str) -> bytes:
    lines = [f"# {note}"]
    lines += [f"v {x:.9g} {y:.9g} {z:.9g}" for x, y, z in mesh.vertices.tolist()]
    lines += [f"f {a} {b} {c}" for a, b, c in (mesh.faces + 1).tolist()]
    lines.append(_OBJ_END)
    return ("\n".join(lines) + "\n").encode("ascii")


def import_mesh(path: str | Path) -> Mesh:
    """Read a mesh that `export_mesh` wrote, or another binary STL, or an OBJ of triangles.

    Corners of an STL with equal coordinates become one vertex. A file in LPS is turned to RAS; a file that
    names no space is taken as it is.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when the file is truncated, of another kind, or its contents are not a mesh; the message
        names it.
    """
    source = Path(path)
    read = {".stl": _read_stl, ".ply": _read_ply, ".obj": _read_obj}[_suffix(source)]
    data = source.read_bytes()
    try:
        mesh, note = read(data)
    except ValueError as error:
        raise ValueError(f"{source}: not a mesh that can be read: {error}") from error
    return Mesh(mesh.vertices @ RAS_TO_LPS, mesh.faces) if b"SPACE=LPS" in note else mesh


def _read_stl(data: bytes) -> tuple[Mesh, bytes]:
    count = int(np.frombuffer(data[80:84], dtype="<u4")[0]) if len(data) >= 84 else -1
    if len(data) != 84 + count * _STL_FACE.itemsize:
        raise ValueError(f"its {len(data)} bytes are not a binary STL of {count} faces (truncated, or text?)")
    corners = np.frombuffer(data, dtype=_STL_FACE, offset=84)["corners"].reshape(-1, 3)
    corners = corners + np.float32(0)  # -0 becomes 0, so that equal corners have equal bytes
    vertices, faces = np.unique(corners, axis=0, return_inverse=True)
    return Mesh(vertices, faces.reshape(-1, 3)), data[:80]


def _read_ply(data: bytes) -> tuple[Mesh, bytes]:
    header, found, body = data.partition(b"end_header\n")
    lines = header.decode("ascii", errors="replace").splitlines()
    layout = "\n".join(line for line in lines if not line.startswith("comment"))
    match = re.fullmatch("\n".join(["ply", *_PLY_LAYOUT]), layout)
    if not found or match is None:
        raise ValueError("expected a binary little-endian PLY with float x, y, z and triangles alone")
    vertex_bytes, faces_count = int(match[1]) * 12, int(match[2])
    if len(body) != vertex_bytes + faces_count * _PLY_FACE.itemsize:
        raise ValueError(f"{len(body)} bytes are not {match[1]} vertices and {match[2]} faces (truncated?)")
    faces = np.frombuffer(body, dtype=_PLY_FACE, offset=vertex_bytes)
    if (faces["count"] != 3).any():
        raise ValueError("expected triangles alone")
    vertices: FloatArray = np.frombuffer(body[:vertex_bytes], dtype="<f4").reshape(-1, 3)
    return Mesh(vertices, faces["corners"]), header


def _read_obj(data: bytes) -> tuple[Mesh, bytes]:
    lines = data.decode("utf-8", errors="replace").splitlines()
    points = [line.split()[1:4] for line in lines if line.startswith("v ")]
    corners = [[word.split("/")[0] for word in line.split()[1:]] for line in lines if line.startswith("f ")]
    if lines and "SPACE=" in lines[0] and lines[-1] != _OBJ_END:
        raise ValueError("its end is missing (truncated?)")
    if not points or not corners or any(len(face) != 3 for face in corners):
        raise ValueError(f"expected an OBJ of triangles, got {len(points)} vertices and {len(corners)} faces")
    vertices = np.array(points, dtype=np.float32)
    return Mesh(vertices, np.array(corners, dtype=np.int64).reshape(-1, 3) - 1), data[:200]
