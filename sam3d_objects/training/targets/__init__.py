"""What stages learn from: made once by frozen parts of the base, kept by a hash of all that made them, and checked."""

from sam3d_objects.training.targets.build import MadeTarget, TargetRequest, build_targets
from sam3d_objects.training.targets.collect import latent_targets, structure_targets
from sam3d_objects.training.targets.distance import SurfaceDistance, distance_between
from sam3d_objects.training.targets.figures import figure_table, figures_of, note_figures
from sam3d_objects.training.targets.gates import check_distances, check_targets
from sam3d_objects.training.targets.inversion import InversionOptions, invert
from sam3d_objects.training.targets.latent import SOURCES, LatentTarget, LatentTargets, resolve_source
from sam3d_objects.training.targets.structure import (
    StructureTarget,
    StructureTargets,
    occupancy_iou,
    structure_surface,
)

__all__ = [
    "SOURCES",
    "InversionOptions",
    "LatentTarget",
    "LatentTargets",
    "MadeTarget",
    "StructureTarget",
    "StructureTargets",
    "SurfaceDistance",
    "TargetRequest",
    "build_targets",
    "check_distances",
    "check_targets",
    "distance_between",
    "figure_table",
    "figures_of",
    "invert",
    "latent_targets",
    "note_figures",
    "occupancy_iou",
    "resolve_source",
    "structure_surface",
    "structure_targets",
]
