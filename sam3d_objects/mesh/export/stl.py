"""Binary STL: triangles alone, the space in the 80 bytes of header. No room for numbers at the vertices."""

from __future__ import annotations

import numpy as np

from sam3d_objects.mesh.export.mesh_file import MeshFile, named_space
from sam3d_objects.mesh.mesh import Mesh

_HEADER_BYTES = 80
_FACE = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])


def encode(content: MeshFile) -> bytes:
    """The bytes of a file; scalars are left out."""
    mesh = content.mesh
    faces = np.zeros(len(mesh.faces), dtype=_FACE)
    cross = mesh.cross
    length = np.linalg.norm(cross, axis=1, keepdims=True)
    faces["normal"] = np.divide(cross, length, out=np.zeros_like(cross), where=length > 0)
    faces["corners"] = mesh.triangles
    header = content.note.encode("ascii").ljust(_HEADER_BYTES)
    return header + np.uint32(len(faces)).astype("<u4").tobytes() + faces.tobytes()


def decode(data: bytes) -> MeshFile:
    """The contents of a file's bytes; corners with equal coordinates become one vertex.

    Raises:
        ValueError: the bytes are not a binary STL, or not all of one.
    """
    start = _HEADER_BYTES + 4
    count = int(np.frombuffer(data[_HEADER_BYTES:start], dtype="<u4")[0]) if len(data) >= start else -1
    if len(data) != start + count * _FACE.itemsize:
        raise ValueError(f"its {len(data)} bytes are not a binary STL of {count} faces (truncated, or text?)")
    corners = np.frombuffer(data, dtype=_FACE, offset=start)["corners"].reshape(-1, 3)
    corners = corners + np.float32(0)  # -0 becomes 0, so that equal corners have equal bytes
    vertices, faces = np.unique(corners, axis=0, return_inverse=True)
    return MeshFile(Mesh(vertices, faces.reshape(-1, 3)), named_space(data[:_HEADER_BYTES]))
