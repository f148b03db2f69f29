"""Cuts: what the model was given, and the true and predicted outlines in three planes, as pictures for a page."""

import base64
import io
from dataclasses import dataclass

import numpy as np
from PIL import Image
from skimage.measure import find_contours

from sam3d_objects.arrays import AnyArray
from sam3d_objects.report.html import quoted
from sam3d_objects.report.results import Row

_EDGES = {
    "axial": ("A", "L", "P", "R"),
    "coronal": ("S", "L", "I", "R"),
    "sagittal": ("S", "P", "I", "A"),
}
"""Patient directions at the top, right, bottom and left of a picture, as `volume.voxel_plane` displays each plane."""

_LETTER = 0.055  # of the longer side


@dataclass(frozen=True)
class Cut:
    """A picture in mm with outlines over it.

    Args:
        heading: below it.
        svg: an <svg> element, labelled for those who do not see it.
    """

    heading: str
    svg: str


def case_cuts(row: Row, artefact: dict[str, AnyArray]) -> list[Cut]:
    """The given slice with its mask, then the cuts of an artefact as `evaluation` saves it."""
    alt = f"The {row.plane} slice that was given, with the mask's outline."
    outlines = {"mask": artefact["slice_mask"]}
    given = _svg(alt, artefact["slice_image"], artefact["slice_spacing_mm"], outlines, row.plane)
    cuts = [Cut("Given: slice and mask", given)]
    for number, name in enumerate(str(name) for name in artefact["views"]):
        outlines = {part: artefact[f"view{number}_{part}"] for part in ("truth", "prediction")}
        lacking = "" if outlines["prediction"].any() else "; the prediction does not reach it"
        alt = f"{name.capitalize()} cut with the outlines of the true and the predicted organ{lacking}."
        picture = _svg(alt, artefact[f"view{number}_image"], artefact[f"view{number}_spacing_mm"], outlines, name)
        cuts.append(Cut(f"{name.capitalize()} cut{' (given)' if number == 0 else ''}", picture))
    return cuts


def _svg(alt: str, image: AnyArray, spacing_mm: AnyArray, outlines: dict[str, AnyArray], plane: str) -> str:
    """An image (rows, cols) uint8 in mm, the outline of each mask as a path of its class, and the directions."""
    row_mm, col_mm = (float(step) for step in spacing_mm)
    size = f'width="{image.shape[1] * col_mm:.2f}" height="{image.shape[0] * row_mm:.2f}"'
    box = f"0 0 {image.shape[1] * col_mm:.2f} {image.shape[0] * row_mm:.2f}"
    paths = "".join(
        f'<path class="{name}" d="{_outline(mask, row_mm, col_mm)}"/>' for name, mask in outlines.items() if mask.any()
    )
    letters = _letters(plane, image.shape[1] * col_mm, image.shape[0] * row_mm)
    return (
        f'<svg viewBox="{box}" role="img" aria-label="{quoted(alt)}">'
        f'<image {size} preserveAspectRatio="none" href="{_png(image)}"/>{paths}{letters}</svg>'
    )


def _letters(plane: str, width_mm: float, height_mm: float) -> str:
    """The patient's directions at the edges; none for a plane that is not one of the three."""
    size = _LETTER * max(width_mm, height_mm)
    middle = (width_mm / 2, height_mm / 2)
    places = ((middle[0], size), (width_mm - size, middle[1]), (middle[0], height_mm - size), (size, middle[1]))
    return "".join(
        f'<text x="{x:.2f}" y="{y:.2f}" font-size="{size:.2f}">{letter}</text>'
        for letter, (x, y) in zip(_EDGES.get(plane, ()), places, strict=False)
    )


def _outline(mask: AnyArray, row_mm: float, col_mm: float) -> str:
    # A border of background closes the outline of a mask that fills its picture; pixel centres lie at halves.
    lines = find_contours(np.pad(mask, 1).astype(float), 0.5)
    return "".join(
        "M" + "L".join(f"{(col - 0.5) * col_mm:.2f} {(row - 0.5) * row_mm:.2f}" for row, col in line) + "Z"
        for line in lines
    )


def _png(image: AnyArray) -> str:
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image, dtype=np.uint8)).save(stream, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"
