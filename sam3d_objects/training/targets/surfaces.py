"""From what a mesh decoder makes to a mesh, as inference takes it."""

from torch import Tensor

from sam3d_objects.mesh import Mesh, outer_surface
from sam3d_objects.model.flexicubes import Surface, surface_from_features


def mesh_of_surface(surface: Surface) -> Mesh:
    """Return the outer part of an extracted surface, float64 on the CPU, in its own frame; empty for an empty one."""
    return outer_surface(Mesh(surface.vertices.detach().double().cpu().numpy(), surface.faces.cpu().numpy()))


def mesh_of_features(features: Tensor, places: Tensor, resolution: int, interior: Tensor) -> Mesh:
    """Return the outer surface, in object coordinates, of one shape's fine cubes.

    Args:
        features: (M, 53) or (M, 101) float.
        places: (M, 3) integers in 0..R-1, where the cubes are.
        resolution: R.
        interior: (r, r, r) bool, voxels without cubes that the shape's shell encloses; r divides R.
    """
    surface, _ = surface_from_features(features, places, resolution, interior=interior)
    return mesh_of_surface(surface)
