"""What a mesh file holds: triangles in mm of a named space, and numbers for each vertex.

The space stands in the file as 3D Slicer's tag `SPACE=LPS` (or RAS), in whatever the format has for a remark:
https://slicer.readthedocs.io/en/latest/user_guide/modules/models.html. A file without it is LPS to Slicer, and
so it is here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from sam3d_objects.arrays import FloatArray
from sam3d_objects.mesh.frame import RAS_TO_LPS
from sam3d_objects.mesh.mesh import Mesh

SPACES = ("LPS", "RAS", "image")
_TAG = re.compile(rb"SPACE=(LPS|RAS|image)\b")


@dataclass(frozen=True, eq=False)
class MeshFile:
    """The contents of a mesh file.

    Args:
        mesh: in mm of `space`.
        space: one of `SPACES`; "image" is the image-frame mm of a picture (x right, y down, z away), where no
            patient frame is known.
        scalars: name -> (V,) floats, a number for each vertex.

    Raises:
        ValueError: another space, or scalars of another shape than (V,).
    """

    mesh: Mesh
    space: str
    scalars: Mapping[str, FloatArray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.space not in SPACES:
            raise ValueError(f"expected a space of {', '.join(SPACES)}, got {self.space!r}")
        for name, values in self.scalars.items():
            if values.shape != (len(self.mesh.vertices),):
                raise ValueError(
                    f"{name}: expected a number for each of {len(self.mesh.vertices)} vertices, got {values.shape}"
                )

    @classmethod
    def from_patient(cls, mesh: Mesh, space: str, scalars: Mapping[str, FloatArray]) -> MeshFile:
        """What to write for a mesh in RAS mm (or image-frame mm, for the space "image")."""
        return cls(_turned(mesh, space), space, scalars)

    @property
    def patient_mesh(self) -> Mesh:
        """The mesh in RAS mm; for the space "image", as it is."""
        return _turned(self.mesh, self.space)

    @property
    def note(self) -> str:
        """The remark that names the space; ASCII, under 80 characters."""
        return f"sam3d-medical surface, {self.space} mm, SPACE={self.space}"


def named_space(note: bytes) -> str:
    """The space that a file's remark names; "LPS" where it names none."""
    found = _TAG.search(note)
    return found[1].decode("ascii") if found else "LPS"


def _turned(mesh: Mesh, space: str) -> Mesh:
    """RAS -> LPS or back, which is the same half turn; other spaces stay."""
    return Mesh(mesh.vertices @ RAS_TO_LPS, mesh.faces) if space == "LPS" else mesh
