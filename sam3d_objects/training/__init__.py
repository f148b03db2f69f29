"""Training: one loop, stages that it is given, and everything that makes a run resumable and repeatable."""

from sam3d_objects.training.options import LoopOptions
from sam3d_objects.training.result import NonFiniteLossError, TrainResult
from sam3d_objects.training.stage import Batch, Samples, Stage
from sam3d_objects.training.stages.structure import StructureStage, contract_of
from sam3d_objects.training.stages.structure_options import StructureOptions
from sam3d_objects.training.trainer import MedicalTrainer, Validator
from sam3d_objects.training.validation import ValidationSlices

__all__ = [
    "Batch",
    "LoopOptions",
    "MedicalTrainer",
    "NonFiniteLossError",
    "Samples",
    "Stage",
    "StructureOptions",
    "StructureStage",
    "TrainResult",
    "ValidationSlices",
    "Validator",
    "contract_of",
]
