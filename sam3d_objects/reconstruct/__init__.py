"""One slice with the organ marked -> the whole organ as a mesh in patient mm."""

from sam3d_objects.reconstruct.field import PatientField, PlacedSolid, average
from sam3d_objects.reconstruct.fit import fit_to_mask
from sam3d_objects.reconstruct.marked import surface_through_mask
from sam3d_objects.reconstruct.reconstructor import Reconstructor
from sam3d_objects.reconstruct.refinement import refine
from sam3d_objects.reconstruct.spread import Prediction, spread_mm
from sam3d_objects.reconstruct.variants import VARIANTS, variants

__all__ = [
    "VARIANTS",
    "PatientField",
    "PlacedSolid",
    "Prediction",
    "Reconstructor",
    "average",
    "fit_to_mask",
    "refine",
    "spread_mm",
    "surface_through_mask",
    "variants",
]
