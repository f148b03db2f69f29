"""Shapes in object coordinates that are known exactly."""

import numpy as np

from sam3d_objects.mesh import Mesh, object_grid_affine, surface_from_field


def box(low: float, high: float) -> Mesh:
    """A closed cube in object coordinates, outward winding."""
    corners = np.array([[x, y, z] for x in (low, high) for y in (low, high) for z in (low, high)])
    faces = [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1]]
    faces += [[2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]]
    return Mesh(corners, np.array(faces))


def ellipsoid(*semiaxes: float) -> Mesh:
    """A closed ellipsoid about the origin; its surface is within 1e-3 of the true one."""
    side = 48
    centres = (np.arange(side) + 0.5) / side - 0.5
    points = np.stack(np.meshgrid(centres, centres, centres, indexing="ij"), axis=-1)
    radius = np.linalg.norm(points / np.array(semiaxes), axis=-1)
    return surface_from_field(1.0 - radius, 0.0, object_grid_affine(side))
