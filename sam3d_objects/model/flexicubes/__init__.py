"""FlexiCubes on sparse grids: from the mesh decoder's features to a differentiable surface."""

from sam3d_objects.model.flexicubes.corners import CornerValues, corner_values
from sam3d_objects.model.flexicubes.extract import extract_surface
from sam3d_objects.model.flexicubes.features import surface_from_features
from sam3d_objects.model.flexicubes.layout import FeatureLayout
from sam3d_objects.model.flexicubes.surface import Surface

__all__ = [
    "CornerValues",
    "FeatureLayout",
    "Surface",
    "corner_values",
    "extract_surface",
    "surface_from_features",
]
