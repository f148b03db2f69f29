"""What training is given to judge an adapter by: meshes of validation patients' slices and their Dice.

Training knows nothing of reconstruction and evaluation; here they meet.
"""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sam3d_objects.evaluation import Overlap, Truth, prepared_cases
from sam3d_objects.evaluation.compare import check_prediction, rasterise
from sam3d_objects.mesh import Mesh
from sam3d_objects.volume import SliceInput

if TYPE_CHECKING:
    from sam3d_objects.adapter import InferenceContract
    from sam3d_objects.model import SAM3DObjects

THRESHOLDS = tuple(np.arange(0.25, 0.651, 0.05).round(2).tolist())
# While training goes on, a few thresholds tell adapters apart: an early one is unsure and best at a low threshold.
COARSE_THRESHOLDS = (0.3, 0.4, 0.5)
Judged = tuple[SliceInput, Truth]


def validation_slices(data_root: Path, organs: Sequence[str] | None, seed: int, most: int) -> list[Judged]:
    """Return slices of validation patients with their truths, at most `most`, spread over the patients."""
    cases = prepared_cases(data_root, organs, seed, split="val")
    chosen = np.linspace(0, len(cases) - 1, min(most, len(cases))).round().astype(int)
    materials = [cases[index].load() for index in chosen]
    return [(material.slice, material.truth) for material in materials]


def voxel_dice(predict: Callable[[], Mesh], truth: Truth) -> float:
    """Return the Dice of a mesh on the truth's grid; 0 where there is no mesh that can be scored."""
    try:
        solid = rasterise(check_prediction(predict()), truth.label.affine)
    except ValueError:
        # Early in training some samples are empty. They count as the worst there is.
        return 0.0
    return Overlap(solid.shared_with(truth.box), int(np.count_nonzero(solid.mask)), truth.voxels).dice


def best_threshold(
    model: "SAM3DObjects",
    contract: "InferenceContract",
    slices: Sequence[Judged],
    seed: int,
    thresholds: Sequence[float] = THRESHOLDS,
) -> tuple[float, float]:
    """Return the share of samples with the best mean Dice over validation slices, and that Dice.

    Trap 18 of fine-tuning: an average of samples is rarely best at one half.
    """
    from sam3d_objects.reconstruct import Reconstructor

    reconstruct = Reconstructor(model, contract)
    scores = np.zeros(len(thresholds))
    for slice, truth in slices:
        field = reconstruct.field(slice, seed)
        for number, threshold in enumerate(thresholds):
            scores[number] += voxel_dice(partial(field.mesh, threshold), truth)
    best = int(scores.argmax())
    return thresholds[best], float(scores[best] / len(slices))


def calibrate_adapter(folder: Path, base: str, device: str, slices: Sequence[Judged], seed: int) -> float:
    """Choose the adapter's threshold on validation slices, write it into its contract, and return it."""
    from sam3d_objects.adapter import load_adapter, read_adapter, save_adapter
    from sam3d_objects.model import load_model

    record = read_adapter(folder)
    model = load_model(base, device=device, stages=("structure",))
    load_adapter(folder, model.structure_flow, base_fingerprint=model.fingerprint)
    threshold, dice = best_threshold(model, record.meta.contract, slices, seed)
    meta = dataclasses.replace(
        record.meta,
        contract=dataclasses.replace(record.meta.contract, threshold=threshold),
        metrics={**record.meta.metrics, "dice_at_threshold": dice},
    )
    save_adapter(folder, model.structure_flow, record.config, meta)
    return threshold
