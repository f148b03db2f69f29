"""One slice with the organ marked -> the whole organ as a mesh in patient mm."""

from sam3d_objects.reconstruct.field import PatientField, PlacedSolid, average
from sam3d_objects.reconstruct.fit import fit_to_mask
from sam3d_objects.reconstruct.reconstructor import Reconstructor
from sam3d_objects.reconstruct.refinement import refine

__all__ = ["PatientField", "PlacedSolid", "Reconstructor", "average", "fit_to_mask", "refine"]
