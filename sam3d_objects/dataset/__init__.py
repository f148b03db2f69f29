"""Scans with labels become a mesh dataset: layouts, preparation, the patient split, and training samples."""

from sam3d_objects.dataset.augment import Augment
from sam3d_objects.dataset.case import PreparedCase
from sam3d_objects.dataset.manifest import CaseEntry, Manifest, OrganEntry, Skipped
from sam3d_objects.dataset.options import PrepareOptions
from sam3d_objects.dataset.prepare import prepare
from sam3d_objects.dataset.samples import Sample, TS_SAM3D_Dataset
from sam3d_objects.dataset.slices import evaluation_slices
from sam3d_objects.dataset.split import SPLITS

__all__ = [
    "SPLITS",
    "Augment",
    "CaseEntry",
    "Manifest",
    "OrganEntry",
    "PrepareOptions",
    "PreparedCase",
    "Sample",
    "Skipped",
    "TS_SAM3D_Dataset",
    "evaluation_slices",
    "prepare",
]
