"""What is judged: a predictor, and what it may answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sam3d_objects.arrays import FloatArray
from sam3d_objects.mesh import Mesh
from sam3d_objects.volume import SliceInput


@dataclass(frozen=True, eq=False)
class Stated:
    """What a predictor may answer in place of a mesh: the mesh, and how sure it is of each place.

    Args:
        mesh: the prediction, patient mm.
        spread: called once, when the prediction's time is taken, with a part of the mesh: (V,) mm at the part's
            vertices; None where it has none.
    """

    mesh: Mesh
    spread: Callable[[Mesh], FloatArray | None]


Predictor = Callable[[SliceInput, int], Mesh | Stated]
"""(slice, seed) -> closed mesh in patient mm, with its stated spread where it has one."""


def mesh_of(answer: Mesh | Stated) -> Mesh:
    """The mesh of what a predictor answered."""
    return answer.mesh if isinstance(answer, Stated) else answer
