"""Legacy VTK PolyData (.vtk, binary): the space in its title, a point-data array for each scalar.

Version 3.0 of the format (https://docs.vtk.org/en/latest/vtk_file_formats/vtk_legacy_file_format.html), which 3D
Slicer and ParaView of any age read; numbers are big-endian, as it demands.
"""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

from sam3d_objects.arrays import AnyArray
from sam3d_objects.mesh.export.mesh_file import MeshFile, named_space
from sam3d_objects.mesh.mesh import Mesh

_HEAD = re.compile(rb"# vtk DataFile Version 3\.0\n([^\n]{0,255})\nBINARY\nDATASET POLYDATA\nPOINTS (\d+) float\n")
_POLYGONS = re.compile(rb"\nPOLYGONS (\d+) (\d+)\n")
_POINT_DATA = re.compile(rb"\nPOINT_DATA (\d+)")
_SCALARS = re.compile(rb"\nSCALARS (\w+) float 1\nLOOKUP_TABLE default\n")


def encode(content: MeshFile) -> bytes:
    """The bytes of a file, coordinates and scalars as float32; the first scalar is the one that viewers colour by."""
    mesh = content.mesh
    faces = np.full((len(mesh.faces), 4), 3, dtype=">i4")
    faces[:, 1:] = mesh.faces
    title = f"# vtk DataFile Version 3.0\n{content.note}\nBINARY\nDATASET POLYDATA\nPOINTS {len(mesh.vertices)} float\n"
    parts = [title.encode("ascii"), mesh.vertices.astype(">f4").tobytes()]
    parts += [f"\nPOLYGONS {len(faces)} {faces.size}\n".encode(), faces.tobytes()]
    if content.scalars:
        parts.append(f"\nPOINT_DATA {len(mesh.vertices)}".encode())
    for name, values in content.scalars.items():
        parts += [f"\nSCALARS {name} float 1\nLOOKUP_TABLE default\n".encode(), values.astype(">f4").tobytes()]
    return b"".join([*parts, b"\n"])


class _Bytes:
    """A file's bytes, and how far they have been read."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def words(self, pattern: re.Pattern[bytes]) -> re.Match[bytes]:
        """Read text; a ValueError if it is not what was expected."""
        found = pattern.match(self.data, self.at)
        if found is None:
            wanted = pattern.pattern.decode("ascii").split()[0]
            raise ValueError(f"expected {wanted!r} of a binary VTK 3.0 PolyData of triangles at byte {self.at}")
        self.at = found.end()
        return found

    def numbers(self, dtype: str, count: int) -> AnyArray:
        """Read (count,) numbers; a ValueError if the file ends before."""
        start, self.at = self.at, self.at + count * np.dtype(dtype).itemsize
        if self.at > len(self.data):
            raise ValueError(f"{len(self.data)} bytes, expected at least {self.at} (truncated?)")
        return np.frombuffer(self.data[start : self.at], dtype=dtype)


def decode(data: bytes) -> MeshFile:
    """The contents of a file's bytes.

    Raises:
        ValueError: another layout than `encode` writes, or a truncated file.
    """
    stream = _Bytes(data)
    head = stream.words(_HEAD)
    vertices = stream.numbers(">f4", 3 * int(head[2])).reshape(-1, 3)
    counts = stream.words(_POLYGONS)
    if int(counts[2]) != 4 * int(counts[1]):
        raise ValueError("expected triangles alone")
    faces = stream.numbers(">i4", int(counts[2])).reshape(-1, 4)
    if (faces[:, 0] != 3).any():
        raise ValueError("expected triangles alone")
    scalars: dict[str, npt.NDArray[np.float32]] = {}
    if data[stream.at :] != b"\n":
        stream.words(_POINT_DATA)
        while data[stream.at :] != b"\n":
            name = stream.words(_SCALARS)[1].decode("ascii")
            scalars[name] = stream.numbers(">f4", len(vertices)).astype(np.float32)
    return MeshFile(Mesh(vertices, faces[:, 1:]), named_space(head[1]), scalars)
