"""Scans: volumes with their place in the patient, readers, orientation, resampling, intensity, slices."""

from sam3d_objects.volume.box import Box, box_of
from sam3d_objects.volume.condition import FIELDS_OF_VIEW, condition_image
from sam3d_objects.volume.intensity import MODALITIES, Intensity, quantile_summary
from sam3d_objects.volume.nifti import read_label, read_nifti, write_nifti
from sam3d_objects.volume.orientation import shear_degrees, to_canonical
from sam3d_objects.volume.planes import (
    PLANES,
    SlicePlane,
    cut,
    inside_scan,
    oblique_plane,
    through_plane_axis,
    voxel_plane,
)
from sam3d_objects.volume.resample import resample, resample_like
from sam3d_objects.volume.slice_files import list_slices, read_slice, slice_stem
from sam3d_objects.volume.slice_input import SliceInput, cut_to_mask, slice_input
from sam3d_objects.volume.volume import Volume, apply_affine, check_same_grid

__all__ = [
    "FIELDS_OF_VIEW",
    "MODALITIES",
    "PLANES",
    "Box",
    "Intensity",
    "SliceInput",
    "SlicePlane",
    "Volume",
    "apply_affine",
    "box_of",
    "check_same_grid",
    "condition_image",
    "cut",
    "cut_to_mask",
    "inside_scan",
    "list_slices",
    "oblique_plane",
    "quantile_summary",
    "read_label",
    "read_nifti",
    "read_slice",
    "resample",
    "resample_like",
    "shear_degrees",
    "slice_input",
    "slice_stem",
    "through_plane_axis",
    "to_canonical",
    "voxel_plane",
    "write_nifti",
]
