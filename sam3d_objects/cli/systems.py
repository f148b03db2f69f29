"""The systems of an evaluation: models in their ways of being used, baselines, and ceilings."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from sam3d_objects.arrays import FloatArray
from sam3d_objects.config import MODEL_SYSTEMS, EvaluateOptions
from sam3d_objects.config.evaluate import BASELINE_SYSTEMS, PATIENT
from sam3d_objects.evaluation import Predictor, System, prepared_baselines
from sam3d_objects.evaluation.ceilings import CEILINGS, ENCODE, Ceiling, RoundTrip, encode_ceiling
from sam3d_objects.evaluation.predictor import Stated
from sam3d_objects.mesh import solid_from_shell
from sam3d_objects.reconstruct import Reconstructor, variants
from sam3d_objects.reconstruct.spread import spread_mm
from sam3d_objects.volume import SliceInput

if TYPE_CHECKING:
    from sam3d_objects.model import SAM3DObjects

    from .models import Models

DIRECT = "direct"
STATING = "adapted"  # says how sure it is of each place; that is judged as well
DIRECT_FOLDER = "direct"  # beside the evaluation: trained once for all of a data set's


def evaluated_systems(
    models: "Models", data_root: Path, organs: Sequence[str], out: Path, options: EvaluateOptions, workers: int = 0
) -> dict[str, System]:
    """System name -> predictor, predictors by organ, or a ceiling, in the order that was asked for.

    Args:
        models: of the adapter.
        data_root: prepared folder, on whose training patients the baselines are fitted.
        organs: that are judged.
        out: folder of the evaluation.
        options: name the systems.
        workers: processes that fit baselines, an organ each; 0 fits here.
    """
    names = options.system_names
    found: dict[str, System] = {}
    for model in MODEL_SYSTEMS:
        if any(name.split("_")[0] == model for name in names):
            ways = variants(getattr(models, model), models.contract_of(model), options.stages)
            found |= {f"{model}{suffix}": way for suffix, way in ways.items()}
            if model == STATING and options.protocol == PATIENT:
                found[model] = _stating(ways[""])
    baselines = [name for name in names if name in BASELINE_SYSTEMS]
    if baselines:
        found |= prepared_baselines(data_root, baselines, organs, workers)
    found |= CEILINGS
    found[ENCODE] = encode_and_decode(models.base)
    systems = {name: found[name] for name in names}
    if options.direct:
        from .direct import direct_predictors

        folder = out.parent / DIRECT_FOLDER
        systems[DIRECT] = direct_predictors(data_root, organs, folder, options.seed, options.device)
    return systems


def _stating(way: Reconstructor) -> Predictor:
    """A way of using a model that states its spread, too: from the samples that it has drawn for the mesh already."""

    def predict(slice: SliceInput, seed: int) -> Stated:
        mesh = way(slice, seed)
        return Stated(mesh, lambda part: spread_mm(part, way.samples(slice, seed)))

    return predict


def encode_and_decode(model: "SAM3DObjects") -> Ceiling:
    """The ceiling of a model's structure stage: the true occupancy through its encoder and its decoder."""
    return encode_ceiling(structure_round_trip(model), model.settings.resolution, model.settings.occupancy)


def structure_round_trip(model: "SAM3DObjects") -> RoundTrip:
    """Occupancy (R, R, R), as the structure's encoder takes it -> the solid that encoder and decoder give back."""

    @torch.no_grad()
    def round_trip(occupancy: FloatArray) -> FloatArray:
        tokens = model.encode_structure(torch.from_numpy(occupancy).float()[None, None].to(model.device))
        logits = model.decode_structure(tokens)[0, 0].float().cpu()
        if model.settings.occupancy == "solid":
            return torch.sigmoid(logits).double().numpy()
        return solid_from_shell((logits > 0).numpy())

    return round_trip
