"""The stages of fine-tuning: which module of the model each one adapts."""

from torch import nn

from sam3d_objects.files import nearest
from sam3d_objects.model.sam3d import SAM3DObjects

STRUCTURE, LATENT, DECODER = "structure", "latent", "decoder"
STAGES = (STRUCTURE, LATENT, DECODER)
"""In the order in which they are trained, and in which they work when a mesh is made."""


def adapted_module(model: SAM3DObjects, stage: str) -> nn.Module:
    """Return the module that a stage adapts: the structure flow, the latent flow or the mesh decoder.

    Raises:
        ValueError: no such stage (the nearest is named), or the model's latent half, which it is in, is not loaded.
    """
    check_stage(stage)
    if stage == STRUCTURE:
        return model.structure_flow
    return model.latent_stage.flow if stage == LATENT else model.latent_stage.mesh_decoder


def stage_fingerprint(model: SAM3DObjects, stage: str) -> str:
    """Return the fingerprint of the half of the model that a stage's adapter belongs to.

    Raises:
        ValueError: as `adapted_module`.
    """
    check_stage(stage)
    return model.fingerprint if stage == STRUCTURE else model.latent_stage.fingerprint


def check_stage(stage: str) -> None:
    """Raise ValueError, naming the nearest, unless `stage` is one of `STAGES`."""
    if stage not in STAGES:
        raise ValueError(f"the stages are {', '.join(STAGES)}; got {stage!r}.{nearest(stage, STAGES)}")
