"""Overfitting: a stage that cannot learn a few samples by heart has something wrong in it, and this finds it out."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from sam3d_objects.evaluation import Material
from sam3d_objects.mesh import Mesh
from sam3d_objects.model.sparse import SparseGrid
from sam3d_objects.model.stages import DECODER, LATENT, STRUCTURE
from sam3d_objects.training import Validated, Validator
from sam3d_objects.training.stages.decoder import DECODED_MM, DecoderStage
from sam3d_objects.training.stages.shapes import ShapeKey
from sam3d_objects.training.targets.surfaces import mesh_of_surface

from .stages import ReadyStage
from .validation import (
    StructureValidator,
    SurfaceValidator,
    evenly,
    half_precision,
    mean_scores,
    mesh_or_none,
    picture_sheets,
)

PICTURES = 3


@dataclass(frozen=True)
class Goal:
    """What must be reached.

    Attributes:
        share: how much of the untrained stage's `measure`, a metric of validation, may be left.
        dice: the least mean Dice.
        measure: the loss, or for the decoder the distance of its surfaces, because most of its loss is the distance
            between two draws of points on one surface, which no training lowers.
    """

    share: float
    dice: float
    measure: str = "loss"


# Set after runs of the built-in model on hippocampi, default epochs, with some room. Structure, 4 slices: 4 % of
# the loss left, Dice .43 -> .87. Latent, 4 slices on the true voxels, where little is left to gain: 70 %, .939 -> .948.
# Decoder, an organ's own latents: 92 % of a distance that is a ninth of a cube to begin with, Dice .975.
GOALS: Mapping[str, Goal] = {
    STRUCTURE: Goal(share=0.3, dice=0.75),
    LATENT: Goal(share=0.85, dice=0.9),
    DECODER: Goal(share=0.97, dice=0.95, measure=DECODED_MM),
}


def overfit_validator(ready: ReadyStage, slices: list[Material], seed: int) -> Validator:
    """Return what judges a stage on the samples that it learns, apart from the other stages' mistakes.

    The structure stage makes its own surfaces; the latent stage draws on the voxels of the true surface; the decoder
    decodes the shapes' own latents.
    """
    stage = ready.built
    if isinstance(stage, DecoderStage):
        return _DecodedValidator(ready, slices)
    if stage.name == LATENT:
        return SurfaceValidator(ready.model, stage.contract, slices, seed, structure=lambda one: one.truth.mesh)
    return StructureValidator(ready.model, stage.contract, slices, seed)


def check_learnt(stage: str, before: Mapping[str, float], after: Mapping[str, float]) -> str:
    """Return, for people, what was reached.

    Args:
        stage: whose goal it is.
        before, after: metrics of the untrained and of the trained stage, the goal's `measure` and `dice` among them.

    Raises:
        ValueError: the goal was not reached.
    """
    goal = GOALS[stage]
    first, last = before[goal.measure], after[goal.measure]
    text = (
        f"overfitting the stage {stage}: {goal.measure} {first:.4g} -> {last:.4g}, {last / first:.1%} of it (at most "
        f"{goal.share:.1%}), Dice {before['dice']:.3f} -> {after['dice']:.3f} (at least {goal.dice:g})"
    )
    if last > goal.share * first or after["dice"] < goal.dice:
        raise ValueError(f"{text}: not reached; give it more --epochs or fewer samples, else look for what is wrong")
    return text


class _DecodedValidator:
    """Mean Dice and surface distance of what the decoder makes of the shapes' own latents."""

    def __init__(self, ready: ReadyStage, slices: list[Material]) -> None:
        assert ready.fixed is not None and isinstance(ready.built, DecoderStage)
        self.stage, self.dataset = ready.built, ready.fixed.dataset
        places = [(case, organ, 0) for case, organ, _, _ in ready.fixed.slices]
        first = {key: number for number, key in reversed(list(enumerate(places)))}
        self.keys: list[ShapeKey] = list(first)
        self.slices = [slices[number] for number in first.values()]

    def __call__(self) -> Validated:
        with half_precision(self.stage.decoder):
            meshes = [mesh_or_none(partial(self._decoded, key)) for key in self.keys]
        shown = {number: meshes[number] for number in evenly(len(meshes), PICTURES)}
        return Validated(mean_scores(meshes, self.slices), picture_sheets(self.slices, shown))

    def _decoded(self, key: ShapeKey) -> Mesh:
        target, latent = self.stage.targets[key], self.stage.latent_stage
        device = self.stage.model.device
        grid = SparseGrid(target.coordinates.to(device), 1)
        (surface,) = latent.decode(target.latents.to(device), grid, target.interior.to(device))
        mesh = mesh_of_surface(surface)
        if mesh.is_empty:
            raise ValueError(f"{key}: the decoder makes no surface of its latents")
        return Mesh(self.dataset.frame(*key).to_patient(mesh.vertices), mesh.faces)
