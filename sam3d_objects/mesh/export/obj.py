"""OBJ: text, the space in the first comment. No room for numbers at the vertices."""

from __future__ import annotations

import numpy as np

from sam3d_objects.mesh.export.mesh_file import MeshFile, named_space
from sam3d_objects.mesh.mesh import Mesh

_END = "# end"  # text states no length: without this line a file of ours was cut off


def encode(content: MeshFile) -> bytes:
    """The bytes of a file; scalars are left out. Nine digits give each float32 back."""
    lines = [f"# {content.note}"]
    lines += [f"v {x:.9g} {y:.9g} {z:.9g}" for x, y, z in content.mesh.vertices.tolist()]
    lines += [f"f {a} {b} {c}" for a, b, c in (content.mesh.faces + 1).tolist()]
    lines.append(_END)
    return ("\n".join(lines) + "\n").encode("ascii")


def decode(data: bytes) -> MeshFile:
    """The contents of a file's bytes: its vertices and triangles; what else it holds is passed over.

    Raises:
        ValueError: there are other faces than triangles or none, or the end of a file of ours is missing.
    """
    lines = data.decode("utf-8", errors="replace").splitlines()
    points = [line.split()[1:4] for line in lines if line.startswith("v ")]
    corners = [[word.split("/")[0] for word in line.split()[1:]] for line in lines if line.startswith("f ")]
    if lines and "sam3d-medical" in lines[0] and lines[-1] != _END:
        raise ValueError("its end is missing (truncated?)")
    if not points or not corners or any(len(face) != 3 for face in corners):
        raise ValueError(f"expected an OBJ of triangles, got {len(points)} vertices and {len(corners)} faces")
    comments = "\n".join(line for line in lines if line.startswith("#"))
    faces = np.array(corners, dtype=np.int64).reshape(-1, 3) - 1
    return MeshFile(Mesh(np.array(points, dtype=np.float32), faces), named_space(comments.encode()))
