"""What training minimises: functions of tensors, differentiable, drawing nothing at random."""

from sam3d_objects.model.flow_matching import flow_matching_loss
from sam3d_objects.model.shortcut import shortcut_loss
from sam3d_objects.training.losses.chamfer import chamfer_distance, nearest_index
from sam3d_objects.training.losses.corner_field import calibrated_scale, clamped_sdf_loss, sign_loss
from sam3d_objects.training.losses.smoothness import edge_length, laplacian, normal_consistency
from sam3d_objects.training.losses.surface_points import sample_surface

__all__ = [
    "calibrated_scale",
    "chamfer_distance",
    "clamped_sdf_loss",
    "edge_length",
    "flow_matching_loss",
    "laplacian",
    "nearest_index",
    "normal_consistency",
    "sample_surface",
    "shortcut_loss",
    "sign_loss",
]
