"""What training is given to judge a stage by: meshes of validation patients' slices, their Dice and surface distance.

Training knows nothing of reconstruction and evaluation; here they meet.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import nn

from sam3d_objects.evaluation import Material, Truth, compare, prepared_cases
from sam3d_objects.evaluation.metrics import assd_mm
from sam3d_objects.mesh import Mesh
from sam3d_objects.reconstruct import Reconstructor
from sam3d_objects.training import Validated
from sam3d_objects.training.validated import Picture

from .pictures import sheet
from .threshold import COARSE_THRESHOLDS, best_threshold

if TYPE_CHECKING:
    from sam3d_objects.adapter import InferenceContract
    from sam3d_objects.model import SAM3DObjects

PICTURES = 3


class Score(NamedTuple):
    """Dice, and the mean distance between the surfaces in mm."""

    dice: float
    assd_mm: float


def validation_slices(
    data_root: Path, organs: Sequence[str] | None, seed: int, most: int, split: str = "val"
) -> list[Material]:
    """Return slices of a split's patients with their truths, at most `most`, spread over the patients."""
    cases = prepared_cases(data_root, organs, seed, split)
    chosen = np.linspace(0, len(cases) - 1, min(most, len(cases))).round().astype(int)
    return [cases[index].load() for index in chosen]


def score_of(mesh: Mesh | None, truth: Truth) -> Score:
    """Score a mesh on the truth's grid; one that is not there or cannot be scored gets the worst there is."""
    if mesh is not None:
        try:
            comparison = compare(mesh, truth)
            return Score(comparison.volume.dice, assd_mm(comparison))
        except ValueError:
            pass  # open, or without a voxel: as bad as none
    return Score(0.0, truth.diagonal_mm)


def mesh_or_none(make: Callable[[], Mesh]) -> Mesh | None:
    """Return a mesh, or None where nothing of it is solid, as happens early in training."""
    try:
        return make()
    except ValueError:
        return None


class StructureValidator:
    """Mean Dice of the structure stage's own surfaces, at the best of a few thresholds.

    Args:
        model: whose structure flow is trained.
        contract: how slices are prepared and the model is sampled.
        slices: at least one.
        seed: of the samples.
    """

    def __init__(
        self, model: "SAM3DObjects", contract: "InferenceContract", slices: Sequence[Material], seed: int
    ) -> None:
        self.model, self.contract, self.slices, self.seed = model, contract, slices, seed
        self.shown = evenly(len(slices), PICTURES)

    def __call__(self) -> Validated:
        """Reconstruct all slices; the pictures show some of them, always the same."""
        with half_precision(self.model.structure_flow):
            found = best_threshold(
                self.model, self.contract, self.slices, self.seed, COARSE_THRESHOLDS, keep=self.shown
            )
        meshes = {number: mesh_or_none(partial(f.mesh, found.threshold)) for number, f in found.fields.items()}
        return Validated({"dice": found.dice}, picture_sheets(self.slices, meshes))


class SurfaceValidator:
    """Mean Dice and surface distance of what the latent stage draws on a structure that stays as it is.

    Args:
        model: whose latent flow or mesh decoder is trained.
        contract, slices, seed: as in `StructureValidator`.
        structure: slice -> the rough surface in patient mm; default: the structure stage's. It is asked once.
    """

    def __init__(
        self,
        model: "SAM3DObjects",
        contract: "InferenceContract",
        slices: Sequence[Material],
        seed: int,
        structure: Callable[[Material], Mesh] | None = None,
    ) -> None:
        self.model, self.contract, self.slices, self.seed = model, contract, slices, seed
        self.structure = structure or self._rough
        self.shown = evenly(len(slices), PICTURES)
        self._structures: list[Mesh | None] | None = None

    def _rough(self, material: Material) -> Mesh:
        reconstructor = Reconstructor(self.model, self.contract, "structure")
        return reconstructor(material.slice, self.seed)

    def __call__(self) -> Validated:
        """Reconstruct all slices; the pictures show some of them, always the same."""
        if self._structures is None:
            self._structures = [mesh_or_none(partial(self.structure, material)) for material in self.slices]
        reconstructor = Reconstructor(self.model, self.contract)
        latent = self.model.latent_stage
        with half_precision(latent.flow), half_precision(latent.mesh_decoder):
            meshes = [
                None if rough is None else mesh_or_none(partial(reconstructor.refined, one.slice, rough, self.seed))
                for one, rough in zip(self.slices, self._structures, strict=True)
            ]
        shown = {number: meshes[number] for number in self.shown}
        return Validated(mean_scores(meshes, self.slices), picture_sheets(self.slices, shown))


def mean_scores(meshes: Sequence[Mesh | None], slices: Sequence[Material]) -> dict[str, float]:
    """Return the means of Dice and surface distance over meshes and the slices that they were made of."""
    scores = [score_of(mesh, one.truth) for mesh, one in zip(meshes, slices, strict=True)]
    return {name: float(np.mean([getattr(score, name) for score in scores])) for name in Score._fields}


def picture_sheets(slices: Sequence[Material], meshes: Mapping[int, Mesh | None]) -> dict[str, Picture]:
    """Return a sheet of pictures for each of the meshes (number of the slice -> mesh)."""
    return {f"slice {number}": sheet(slices[number], mesh) for number, mesh in meshes.items()}


def evenly(count: int, most: int) -> list[int]:
    """Return at most `most` of the numbers below `count`, spread evenly."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(int).tolist()


def half_precision(module: nn.Module) -> AbstractContextManager[object]:
    """Compute as in training where the frozen weights are kept in half precision and what trains is not."""
    kinds = {parameter.dtype for parameter in module.parameters()}
    if not kinds & {torch.bfloat16, torch.float16}:
        return nullcontext()
    return torch.autocast(next(module.parameters()).device.type, torch.bfloat16)
