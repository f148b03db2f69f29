"""How an adapter that is trained on a data set is to be used."""

from sam3d_objects.adapter import InferenceContract
from sam3d_objects.dataset import TS_SAM3D_Dataset
from sam3d_objects.model import SAM3DObjects


def contract_of(
    dataset: TS_SAM3D_Dataset, model: SAM3DObjects, drop_pointmap: bool = False, scene_scale_mm: float = 0.0
) -> InferenceContract:
    """Return how an adapter trained on a data set is to be used, sampled as the base model is."""
    manifest, settings = dataset.manifest, model.settings
    return InferenceContract(
        field_of_view=manifest.field_of_view,
        margin_mm=manifest.margin_mm,
        modality=manifest.modality,
        window_hu=manifest.window_hu,
        percentiles=manifest.percentiles,
        planes=dataset.planes,
        steps=settings.steps,
        guidance=settings.guidance,
        pointmap="drop" if drop_pointmap else "plane",
        scene_scale_mm=scene_scale_mm,
    )
