"""The threshold of averaged samples: which share of them makes a voxel solid, chosen on validation patients."""

import dataclasses
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sam3d_objects.evaluation import Material, Overlap, Truth
from sam3d_objects.evaluation.rasterise import check_prediction, rasterise_beside
from sam3d_objects.mesh import Mesh
from sam3d_objects.reconstruct import PatientField, Reconstructor

if TYPE_CHECKING:
    from sam3d_objects.adapter import InferenceContract
    from sam3d_objects.model import SAM3DObjects

THRESHOLDS = tuple(np.arange(0.25, 0.651, 0.05).round(2).tolist())
# While training goes on, a few thresholds tell adapters apart: an early one is unsure and best at a low threshold.
COARSE_THRESHOLDS = (0.3, 0.4, 0.5)
CALIBRATED = "dice_at_threshold"


class Threshold(NamedTuple):
    """The best threshold, its mean Dice, and the fields of the slices that were to be kept, by number."""

    threshold: float
    dice: float
    fields: dict[int, PatientField]


def best_threshold(
    model: "SAM3DObjects",
    contract: "InferenceContract",
    slices: Sequence[Material],
    seed: int,
    thresholds: Sequence[float] = THRESHOLDS,
    keep: Collection[int] = (),
) -> Threshold:
    """Find the share of samples with the best mean Dice over validation slices.

    Trap 18 of fine-tuning: an average of samples is rarely best at one half.

    Args:
        model, contract: what is sampled, and how.
        slices: at least one, with their truths.
        seed: of the samples.
        thresholds: that are tried.
        keep: numbers of the slices whose fields are returned.
    """
    reconstruct = Reconstructor(model, contract, "structure")
    scores = np.zeros(len(thresholds))
    fields = {}
    for index, one in enumerate(slices):
        field = reconstruct.field(one.slice, seed)
        if index in keep:
            fields[index] = field
        for number, threshold in enumerate(thresholds):
            scores[number] += voxel_dice(partial(field.mesh, threshold), one.truth)
    best = int(scores.argmax())
    return Threshold(thresholds[best], float(scores[best] / len(slices)), fields)


def voxel_dice(predict: Callable[[], Mesh], truth: Truth) -> float:
    """Return the Dice of a mesh on the truth's grid; 0 where there is no mesh that can be scored."""
    try:
        solid = rasterise_beside(check_prediction(predict()), truth)
    except ValueError:
        # Early in training some samples are empty. They count as the worst there is.
        return 0.0
    return Overlap(solid.shared_with(truth.box), int(np.count_nonzero(solid.mask)), truth.voxels).dice


def calibrate_adapter(folder: Path, base: str, device: str, slices: Sequence[Material], seed: int) -> float:
    """Choose how a structure adapter is sampled on validation slices, write it into its contract, and say it.

    See `choose_way` for what is tried; the table of it is printed and kept in the adapter's record.

    Returns:
        the threshold.
    """
    from sam3d_objects.adapter import load_adapter, read_adapter, save_adapter
    from sam3d_objects.model import load_model

    from .choice import CHOSEN, choose_way, ways_table

    record = read_adapter(folder)
    model = load_model(base, device=device, stages=("structure",))
    load_adapter(folder, model.structure_flow, base_fingerprint=model.fingerprint)
    choice = choose_way(model, record.meta.contract, slices, seed)
    best = choice.best
    meta = dataclasses.replace(
        record.meta,
        contract=dataclasses.replace(
            record.meta.contract, samples=best.samples, fit=best.fit, threshold=best.threshold
        ),
        metrics={**record.meta.metrics, CALIBRATED: best.dice},
        training={**record.meta.training, CHOSEN: choice.record()},
    )
    save_adapter(folder, model.structure_flow, record.config, meta)
    print(ways_table(choice))
    return best.threshold
