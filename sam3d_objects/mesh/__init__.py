"""Meshes: surfaces from masks, frames (the one place that scales), voxels, distances, samples, files."""

from sam3d_objects.mesh.export import MeshFile, export_mask, export_mesh, import_mesh, read_mesh_file
from sam3d_objects.mesh.frame import RAS_TO_LPS, ObjectFrame, SliceCamera, pointmap
from sam3d_objects.mesh.mesh import Mesh
from sam3d_objects.mesh.occupancy import SOLID_SUPERSAMPLE, occupancy_grid
from sam3d_objects.mesh.outer import outer_surface
from sam3d_objects.mesh.parts import main_parts
from sam3d_objects.mesh.sampling import sample_surface
from sam3d_objects.mesh.sdf import contains, signed_distance, surface_distance
from sam3d_objects.mesh.shell import solid_from_shell
from sam3d_objects.mesh.surface import surface_from_field, surface_from_mask
from sam3d_objects.mesh.voxelise import inside, object_grid_affine, solid_fraction, surface_voxels

__all__ = [
    "RAS_TO_LPS",
    "SOLID_SUPERSAMPLE",
    "Mesh",
    "MeshFile",
    "ObjectFrame",
    "SliceCamera",
    "contains",
    "export_mask",
    "export_mesh",
    "import_mesh",
    "inside",
    "main_parts",
    "object_grid_affine",
    "occupancy_grid",
    "outer_surface",
    "pointmap",
    "read_mesh_file",
    "sample_surface",
    "signed_distance",
    "solid_fraction",
    "solid_from_shell",
    "surface_distance",
    "surface_from_field",
    "surface_from_mask",
    "surface_voxels",
]
