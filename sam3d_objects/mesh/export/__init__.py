"""Export: surfaces as STL, PLY, OBJ, GLB and VTK files that name their frame, masks on a scan's grid, and back."""

from sam3d_objects.mesh.export.mask import export_mask
from sam3d_objects.mesh.export.mesh_file import SPACES, MeshFile
from sam3d_objects.mesh.export.transfer import SCALAR_SUFFIXES, SUFFIXES, export_mesh, import_mesh, read_mesh_file

__all__ = [
    "SCALAR_SUFFIXES",
    "SPACES",
    "SUFFIXES",
    "MeshFile",
    "export_mask",
    "export_mesh",
    "import_mesh",
    "read_mesh_file",
]
