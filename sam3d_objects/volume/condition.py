"""What a model sees of a slice: the one place that training, evaluation and inference share."""

import numpy as np

from sam3d_objects.arrays import FloatArray
from sam3d_objects.files import nearest
from sam3d_objects.volume.intensity import Intensity
from sam3d_objects.volume.slice_input import SliceInput, cut_to_mask

FIELDS_OF_VIEW = ("scan", "mask_margin")


def condition_image(
    slice: SliceInput,
    intensity: Intensity,
    field_of_view: str,
    margin_mm: float,
) -> tuple[SliceInput, FloatArray]:
    """Cut a slice to its field of view and bring it to [0, 1].

    With 'mask_margin' the slice is cut to the mask and `margin_mm` around it, and percentiles come from
    the valid
    pixels of the cut slice: nothing beyond the margin, not even through `slice.reference`, changes the result.
    With 'scan' the slice stays whole, and percentiles come from `slice.reference` or else from its own valid
    pixels.

    Args:
        slice: raw intensities and mask.
        intensity: modality, window and percentiles.
        field_of_view: 'scan' or 'mask_margin'.
        margin_mm: used by 'mask_margin'.

    Returns:
        The (cut) slice, and its image (rows, cols) float32 in [0, 1], 0 where not valid.

    Raises:
        ValueError: an unknown field of view, a negative margin, or intensities that are not finite.
    """
    if field_of_view not in FIELDS_OF_VIEW:
        raise ValueError(
            f"expected a field_of_view of {', '.join(FIELDS_OF_VIEW)}, got {field_of_view!r}."
            f"{nearest(field_of_view, FIELDS_OF_VIEW)}"
        )
    if field_of_view == "mask_margin":
        slice = cut_to_mask(slice, margin_mm)  # drops the reference, which knows the whole scan
    seen = slice.image[slice.valid] if slice.reference is None else slice.reference
    image01 = np.zeros(slice.plane.shape, dtype=np.float32)
    image01[slice.valid] = intensity.normalise(slice.image[slice.valid], seen)
    return slice, image01
