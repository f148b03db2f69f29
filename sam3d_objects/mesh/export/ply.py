"""Binary PLY: the space in a comment, a float property for each scalar, and the first one's colours."""

from __future__ import annotations

import re

import numpy as np

from sam3d_objects.mesh.export.colours import COLOUR_MAP, colour_range, colours
from sam3d_objects.mesh.export.mesh_file import MeshFile, named_space
from sam3d_objects.mesh.mesh import Mesh

_FACE = np.dtype([("count", "u1"), ("corners", "<i4", 3)])
_TYPES = {"float": "<f4", "float32": "<f4", "double": "<f8", "float64": "<f8"}
_TYPES |= {"char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "<i2", "int16": "<i2"}
_TYPES |= {"ushort": "<u2", "uint16": "<u2", "int": "<i4", "int32": "<i4", "uint": "<u4", "uint32": "<u4"}
_LAYOUT = re.compile(
    r"ply\nformat binary_little_endian 1\.0\n"
    r"element vertex (?P<vertices>\d+)\n(?P<properties>(?:property \w+ \w+\n)+)"
    r"element face (?P<faces>\d+)\nproperty list (?:uchar|uint8) u?int(?:32)? vertex_(?:indices|index)\n"
)
_GEOMETRY = ("x", "y", "z", "nx", "ny", "nz")
_END = b"end_header\n"


def encode(content: MeshFile) -> bytes:
    """The bytes of a file: x, y, z and the scalars as float32, colours as red, green, blue."""
    mesh, scalars = content.mesh, content.scalars
    comments = [content.note]
    fields = [(name, "<f4") for name in ("x", "y", "z", *scalars)]
    if scalars:
        first = next(iter(scalars))
        low, high = colour_range(scalars[first])
        comments.append(f"colours: {COLOUR_MAP}, {first} from {low:g} to {high:g}")
        fields += [(name, "u1") for name in ("red", "green", "blue")]
    vertices = np.zeros(len(mesh.vertices), dtype=fields)
    vertices["x"], vertices["y"], vertices["z"] = mesh.vertices.T
    for name, values in scalars.items():
        vertices[name] = values
    if scalars:
        vertices["red"], vertices["green"], vertices["blue"] = colours(scalars[first]).T
    faces = np.zeros(len(mesh.faces), dtype=_FACE)
    faces["count"] = 3
    faces["corners"] = mesh.faces
    header = ["ply", "format binary_little_endian 1.0", *(f"comment {line}" for line in comments)]
    header.append(f"element vertex {len(vertices)}")
    header += [f"property {'float' if kind == '<f4' else 'uchar'} {name}" for name, kind in fields]
    header += [f"element face {len(faces)}", "property list uchar int vertex_indices", ""]
    return "\n".join(header).encode("ascii") + _END + vertices.tobytes() + faces.tobytes()


def decode(data: bytes) -> MeshFile:
    """The contents of a file's bytes; a float property that is no position or normal is a scalar.

    Raises:
        ValueError: another kind of PLY than binary little-endian triangles, or a truncated one.
    """
    header, found, body = data.partition(_END)
    lines = header.decode("ascii", errors="replace").splitlines(keepends=True)
    match = _LAYOUT.fullmatch("".join(line for line in lines if not line.startswith(("comment", "obj_info"))))
    if not found or match is None:
        raise ValueError("expected a binary little-endian PLY of vertices and triangles alone")
    properties = [line.split()[1:] for line in match["properties"].splitlines()]
    names = [name for _, name in properties]
    if any(kind not in _TYPES for kind, _ in properties) or len(set(names)) != len(names):
        raise ValueError(f"its vertices have properties that no PLY has: {properties}")
    if not {"x", "y", "z"} <= set(names):
        raise ValueError(f"its vertices have no x, y and z, but {', '.join(names)}")
    layout = np.dtype([(name, _TYPES[kind]) for kind, name in properties])
    vertex_bytes, face_count = int(match["vertices"]) * layout.itemsize, int(match["faces"])
    if len(body) != vertex_bytes + face_count * _FACE.itemsize:
        raise ValueError(
            f"{len(body)} bytes are not {match['vertices']} vertices and {face_count} triangles (truncated?)"
        )
    faces = np.frombuffer(body, dtype=_FACE, offset=vertex_bytes)
    if (faces["count"] != 3).any():
        raise ValueError("expected triangles alone")
    vertices = np.frombuffer(body[:vertex_bytes], dtype=layout)
    scalars = {name: vertices[name] for name in names if layout[name].kind == "f" and name not in _GEOMETRY}
    mesh = Mesh(np.stack([vertices[axis] for axis in "xyz"], axis=1), faces["corners"])
    return MeshFile(mesh, named_space(header), scalars)
