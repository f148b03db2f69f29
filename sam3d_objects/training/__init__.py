"""Training: one loop, stages that it is given, and everything that makes a run resumable and repeatable."""

from sam3d_objects.training.contract import contract_of
from sam3d_objects.training.options import LoopOptions
from sam3d_objects.training.result import NonFiniteLossError, TrainResult
from sam3d_objects.training.stage import Batch, Samples, Stage
from sam3d_objects.training.stages.decoder import DecoderStage
from sam3d_objects.training.stages.decoder_options import DecoderOptions
from sam3d_objects.training.stages.latent import LatentFlowStage
from sam3d_objects.training.stages.latent_options import LatentOptions
from sam3d_objects.training.stages.structure import StructureStage
from sam3d_objects.training.stages.structure_options import StructureOptions
from sam3d_objects.training.trainer import MedicalTrainer
from sam3d_objects.training.validated import Validated, Validator
from sam3d_objects.training.validation import ValidationSlices

__all__ = [
    "Batch",
    "DecoderOptions",
    "DecoderStage",
    "LatentFlowStage",
    "LatentOptions",
    "LoopOptions",
    "MedicalTrainer",
    "NonFiniteLossError",
    "Samples",
    "Stage",
    "StructureOptions",
    "StructureStage",
    "TrainResult",
    "Validated",
    "ValidationSlices",
    "Validator",
    "contract_of",
]
