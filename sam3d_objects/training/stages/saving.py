"""What a stage trained, as an adapter folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from sam3d_objects.adapter import AdapterMeta, InferenceContract, save_adapter
from sam3d_objects.model import SAM3DObjects
from sam3d_objects.model.stages import stage_fingerprint
from sam3d_objects.training.adaptation import AdaptedOptions
from sam3d_objects.training.stages.shapes import StageShapes


class AdaptedStage(Protocol):
    """A stage that adapts a part of the model."""

    name: str
    model: SAM3DObjects
    contract: InferenceContract
    shapes: StageShapes

    @property
    def options(self) -> AdaptedOptions:
        """How the part is adapted."""
        ...

    def record(self) -> dict[str, Any]:
        """Return the stage's options and what it is trained on."""
        ...


def save_stage(stage: AdaptedStage, folder: Path, module: nn.Module, metrics: Mapping[str, float]) -> None:
    """Write the adapter folder of a stage's module, with all that using it needs, and the metrics it reached."""
    meta = AdapterMeta(
        stage=stage.name,
        base_name=stage.model.name,
        base_fingerprint=stage_fingerprint(stage.model, stage.name),
        organs=stage.shapes.train.organs,
        contract=stage.contract,
        metrics=metrics,
        training={name: value for name, value in stage.record().items() if name != "contract"},
    )
    save_adapter(folder, module, stage.options.adaptation.saved_config, meta)
