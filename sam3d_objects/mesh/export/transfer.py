"""Meshes to files and back: the suffix says the format, the file says the space."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import numpy as np

from sam3d_objects.arrays import FloatArray
from sam3d_objects.files import atomic_path
from sam3d_objects.mesh.export import glb, obj, ply, stl, vtk_polydata
from sam3d_objects.mesh.export.mesh_file import MeshFile
from sam3d_objects.mesh.mesh import Mesh

_FORMATS: dict[str, ModuleType] = {".stl": stl, ".ply": ply, ".obj": obj, ".glb": glb, ".vtk": vtk_polydata}
SUFFIXES = tuple(_FORMATS)
SCALAR_SUFFIXES = (".ply", ".glb", ".vtk")
"""The formats with room for numbers at the vertices."""
_SCALAR_NAME = re.compile(r"[a-z]+(_[a-z0-9]+)+")  # with its unit; no property of PLY's own is called so


def _format(path: Path) -> ModuleType:
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{path}: expected a file name that ends in {', '.join(SUFFIXES)}")
    return _FORMATS[path.suffix.lower()]


def export_mesh(
    path: str | Path, mesh: Mesh, space: str = "LPS", scalars: Mapping[str, FloatArray] | None = None
) -> None:
    """Write a mesh in the format of the file's suffix; the file appears whole or not at all.

    Files hold float32. The same mesh gives the same bytes.

    Args:
        path: ends in .stl (binary), .ply (binary), .obj, .glb or .vtk (PolyData, binary).
        mesh: in patient mm (RAS), or in image-frame mm for the space "image"; not empty.
        space: of the file. "LPS", for which x and y change sign, is what DICOM, ITK and 3D Slicer mean where
            nothing is said; "RAS" is NIfTI's; "image" stands for a picture's frame, where no patient frame is known.
        scalars: name -> (V,) finite floats, such as `spread_mm`. .vtk, .ply and .glb hold the numbers; .ply and .glb
            also have the first one's colours. .stl and .obj have no room and are written without.

    Raises:
        ValueError: another suffix or space, an empty mesh, or scalars that cannot be written.
    """
    target = Path(path)
    write = _format(target)
    if mesh.is_empty:
        raise ValueError(f"{target}: the mesh is empty, nothing is written")
    for name, values in (scalars or {}).items():
        if not _SCALAR_NAME.fullmatch(name):
            raise ValueError(f"{target}: expected a name with its unit, such as spread_mm, got {name!r}")
        if not np.isfinite(values).all():
            raise ValueError(f"{target}: {name}: expected finite numbers, {np.sum(~np.isfinite(values))} are not")
    try:
        content = MeshFile.from_patient(mesh, space, scalars or {})
    except ValueError as error:
        raise ValueError(f"{target}: {error}") from error
    data = write.encode(_rounded(content))
    with atomic_path(target) as temporary:
        temporary.write_bytes(data)


def _rounded(content: MeshFile) -> MeshFile:
    """What a file can hold, so that all formats hold the same numbers."""
    return MeshFile(Mesh(content.mesh.vertices.astype(np.float32), content.mesh.faces), content.space, content.scalars)


def read_mesh_file(path: str | Path) -> MeshFile:
    """Read a file that `export_mesh` wrote, or another one of these formats, with its space and its scalars.

    Corners of an STL with equal coordinates become one vertex. A file that names no space is LPS, as to 3D Slicer.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when the file is truncated, of another kind, or its contents are not a mesh; the message
        names it.
    """
    source = Path(path)
    read = _format(source)
    data = source.read_bytes()
    try:
        content: MeshFile = read.decode(data)
    except ValueError as error:
        raise ValueError(f"{source}: not a mesh that can be read: {error}") from error
    return content


def import_mesh(path: str | Path) -> Mesh:
    """Read a file's mesh in RAS mm (for the space "image", in its mm). Raises as `read_mesh_file`."""
    return read_mesh_file(path).patient_mesh
