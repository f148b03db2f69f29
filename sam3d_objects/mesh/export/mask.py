"""A mesh as a mask on a scan's own grid, so that both open on top of each other."""

from pathlib import Path

import numpy as np

from sam3d_objects.mesh.mesh import Mesh
from sam3d_objects.mesh.voxelise import inside
from sam3d_objects.volume import Volume, write_nifti


def export_mask(path: str | Path, mesh: Mesh, scan: Volume) -> Volume:
    """Write the voxels of a scan whose centres a mesh encloses as 1, all others as 0, and return them.

    What of the mesh lies beyond the scan is not in the mask.

    Args:
        path: ends in .nii or .nii.gz.
        mesh: closed, RAS mm.
        scan: whose grid the mask gets: shape, axes and affine.

    Returns:
        (I, J, K) uint8 on the scan's grid.

    Raises:
        ValueError: another suffix, or a mesh that is open along a line of the grid.
    """
    mask = scan.with_voxels(inside(mesh, scan.affine, scan.shape).astype(np.uint8))
    write_nifti(path, mask)
    return mask
