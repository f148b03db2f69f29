"""SAM 3D Objects in plain PyTorch."""

from sam3d_objects.model.pose import Pose
from sam3d_objects.model.sam3d import ConditionInputs, SAM3DObjects
from sam3d_objects.model.structure.settings import StructureSettings
from sam3d_objects.model.weights import fingerprint, load_model

__all__ = ["ConditionInputs", "Pose", "SAM3DObjects", "StructureSettings", "fingerprint", "load_model"]
