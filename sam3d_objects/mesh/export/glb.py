"""GLB (binary glTF 2.0), written and read by trimesh.

glTF's world is metres, y up, an object's front towards +z
(https://registry.khronos.org/glTF/specs/2.0/glTF-2.0.html#coordinate-system-and-units). The file holds the vertices in
mm of its space, and the matrix of its one node stands the patient upright: x left, y superior, z anterior, metres.
So a viewer shows what it should, and nothing is lost. `extras` of the mesh name the space.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt

from sam3d_objects.arrays import FloatArray
from sam3d_objects.mesh.export.colours import COLOUR_MAP, colour_range, colours, linear_light
from sam3d_objects.mesh.export.mesh_file import SPACES, MeshFile
from sam3d_objects.mesh.mesh import Mesh

_METRES_PER_MM = 0.001
# Rows: glTF's x, y, z in the axes of the space; all are rotations.
_TURNS = {
    "LPS": np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),
    "RAS": np.array([[-1.0, 0, 0], [0, 0, 1], [0, 1, 0]]),
    "image": np.array([[1.0, 0, 0], [0, -1, 0], [0, 0, -1]]),
}
_SURFACE = {
    "pbrMetallicRoughness": {"metallicFactor": 0, "roughnessFactor": 0.8},
    "doubleSided": True,
}


def to_gltf(space: str) -> FloatArray:
    """(4, 4) float64: mm of a space -> glTF's world in metres."""
    matrix = np.eye(4)
    matrix[:3, :3] = _TURNS[space] * _METRES_PER_MM
    return matrix


def encode(content: MeshFile) -> bytes:
    """The bytes of a file: scalars as attributes `_NAME` (float32), the first one's colours at the vertices."""
    import trimesh

    extras: dict[str, Any] = {"SPACE": content.space, "note": content.note}
    shades = None
    if content.scalars:
        first, values = next(iter(content.scalars.items()))
        shades = linear_light(colours(values))
        extras["colours"] = {"map": COLOUR_MAP, "of": first, "range": colour_range(values)}
    body = trimesh.Trimesh(content.mesh.vertices, content.mesh.faces, vertex_colors=shades, process=False)
    for name, numbers in content.scalars.items():
        body.vertex_attributes[f"_{name.upper()}"] = numbers.astype(np.float32)
    body.metadata.update(extras)
    scene = trimesh.Scene()
    scene.add_geometry(body, node_name="organ", geom_name="surface", transform=to_gltf(content.space))
    data: bytes = trimesh.exchange.gltf.export_glb(scene, include_normals=True, tree_postprocessor=_finished)
    return data


def _finished(tree: dict[str, Any]) -> None:
    """Name who made the file, and give the surface a material: glTF's default is metal, black without a room."""
    tree["asset"]["generator"] = f"sam3d-medical, {tree['asset']['generator']}"
    tree["materials"] = [_SURFACE]
    tree["meshes"][0]["primitives"][0]["material"] = 0


def decode(data: bytes) -> MeshFile:
    """The contents of a file's bytes, all meshes of its scene as one; names of scalars in lower case.

    A file that names no space is taken for a patient who stands upright, as `to_gltf("LPS")` says. Coordinates are
    rounded to float32 of a mm; scalars are read where there is one mesh.

    Raises:
        ValueError: the bytes are not a GLB of triangles, or not all of one.
    """
    import trimesh

    if data[:4] != b"glTF" or int.from_bytes(data[8:12], "little") != len(data):
        raise ValueError(f"its {len(data)} bytes are not a whole GLB (truncated, or another format?)")
    try:
        scene = trimesh.load_scene(io.BytesIO(data), file_type="glb", process=False)
    except (KeyError, IndexError, TypeError, NotImplementedError) as error:
        raise ValueError(f"its contents are not glTF 2.0: {error!r}") from error
    placed = [scene.graph[node] for node in sorted(scene.graph.nodes_geometry)]
    found = [(scene.geometry[name], matrix) for matrix, name in placed]
    bodies = [(body, matrix) for body, matrix in found if isinstance(body, trimesh.Trimesh)]
    if not bodies:
        raise ValueError("there is no mesh in it")
    named = [str(body.metadata.get("SPACE")) for body, _ in bodies]
    space = named[0] if named[0] in SPACES else "LPS"
    back = np.linalg.inv(to_gltf(space))
    meshes = [Mesh(body.vertices, body.faces).transformed(back @ matrix) for body, matrix in bodies]
    mesh = _joined(meshes)
    attributes = bodies[0][0].vertex_attributes if len(bodies) == 1 else {}
    scalars = {name[1:].lower(): _column(values) for name, values in attributes.items() if name.startswith("_")}
    return MeshFile(mesh, space, scalars)


def _column(values: npt.ArrayLike) -> FloatArray:
    numbers = np.asarray(values, dtype=np.float32)
    return numbers.reshape(len(numbers), -1)[:, 0]


def _joined(meshes: list[Mesh]) -> Mesh:
    offsets = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes[:-1]])
    faces = [mesh.faces + offset for mesh, offset in zip(meshes, offsets, strict=True)]
    return Mesh(np.concatenate([mesh.vertices for mesh in meshes]).astype(np.float32), np.concatenate(faces))
