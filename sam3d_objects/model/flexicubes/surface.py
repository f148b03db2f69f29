"""What extraction returns: a triangle surface whose vertices carry gradients."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Surface:
    """Triangles that wind outward; without any where nothing crosses zero.

    Args:
        vertices: (V, 3) float, in the object's cube [-0.5, 0.5]^3 (or in whatever the grid's positions were).
        faces: (F, 3) int64.
        attributes: (V, A) float, colours after the sigmoid; None where the grid had none.
        deviation: (L,) float, in training: for each crossing of each dual vertex, how far its distance to that vertex
            is from their mean distance. Else None.
    """

    vertices: Tensor
    faces: Tensor
    attributes: Tensor | None = None
    deviation: Tensor | None = None
