"""Pictures for TensorBoard: what a stage was shown, what it made of it, and what it should have made."""

from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

from sam3d_objects.arrays import AnyArray, BoolArray, FloatArray
from sam3d_objects.evaluation import Material
from sam3d_objects.evaluation.artefacts import View, grey, views
from sam3d_objects.evaluation.compare import check_prediction
from sam3d_objects.mesh import Mesh
from sam3d_objects.report.charts import PREDICTED_COLOUR, TRUE_COLOUR
from sam3d_objects.training.validated import Picture

MASK_COLOUR = "#ffd92f"
_INCHES, _DPI = 2.2, 90
# From the left, in front and above, in patient axes (right, anterior, superior): every side of an organ's box is askew.
_LOOK_FROM = np.array([-1.0, 1.5, 1.0])
_LIGHT_FROM = np.array([-1.0, 1.0, 2.0])
_AMBIENT = 0.35


def sheet(material: Material, mesh: Mesh | None) -> Picture:
    """Draw the slice with its mask, the true and the predicted cut in three planes, and both surfaces.

    Args:
        material: a slice and its organ.
        mesh: what was made of it, patient mm; None, or one that is no solid, is drawn as nothing.

    Returns:
        (Y, X, 3) uint8 RGB.
    """
    mesh = _solid(mesh)
    shown = views(material, mesh)
    figure = Figure(figsize=(_INCHES * (len(shown) + 3), _INCHES * 1.15), dpi=_DPI, layout="constrained")
    panels = list(figure.subplots(1, len(shown) + 3))
    _slice(panels[0], material)
    for panel, view in zip(panels[1:], shown, strict=False):
        _cut(panel, view)
    surfaces = (("prediction", mesh, PREDICTED_COLOUR), ("truth", material.truth.mesh, TRUE_COLOUR))
    for panel, (title, surface, colour) in zip(panels[-2:], surfaces, strict=True):
        panel.set_title(title, fontsize=8)
        _rendered(panel, surface, colour, material.truth.mesh.bounds)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[:, :, :3].copy()


def _solid(mesh: Mesh | None) -> Mesh | None:
    try:
        return None if mesh is None else check_prediction(mesh)
    except ValueError:
        return None


def _slice(panel: Any, material: Material) -> None:
    given = material.slice
    panel.set_title(f"given: {given.plane.name}", fontsize=8)
    _image(panel, grey(given.image, given.valid), given.plane.pixel_spacing_mm)
    _outline(panel, given.mask, MASK_COLOUR)


def _cut(panel: Any, view: View) -> None:
    panel.set_title(view.name, fontsize=8)
    _image(panel, view.image, view.spacing_mm)
    _outline(panel, view.truth, TRUE_COLOUR)
    _outline(panel, view.prediction, PREDICTED_COLOUR)


def _image(panel: Any, image: AnyArray, spacing_mm: tuple[float, float]) -> None:
    panel.imshow(image, cmap="gray", vmin=0, vmax=255, aspect=spacing_mm[0] / spacing_mm[1])
    panel.set_axis_off()


def _outline(panel: Any, mask: BoolArray, colour: str) -> None:
    if mask.any():
        # A border of background closes the outline of a mask that fills its picture.
        rows, cols = (np.arange(-1, size + 1) for size in mask.shape)
        panel.contour(cols, rows, np.pad(mask, 1).astype(float), levels=[0.5], colors=[colour], linewidths=1.2)


def _rendered(panel: Any, mesh: Mesh | None, colour: str, bounds_mm: FloatArray) -> None:
    """Paint a mesh's faces from back to front, each as bright as it faces the light, in the truth's frame."""
    panel.set_axis_off()
    panel.set_aspect("equal")
    axes = _view_axes()
    middle, reach_mm = bounds_mm.mean(axis=0), float(np.linalg.norm(np.ptp(bounds_mm, axis=0))) * 0.6
    panel.set_xlim(-reach_mm, reach_mm)
    panel.set_ylim(-reach_mm, reach_mm)
    if mesh is None:
        return
    seen = (mesh.vertices - middle) @ axes.T  # right, up, towards the viewer
    corners = seen[mesh.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    lengths = np.linalg.norm(normals, axis=1)
    front = (normals[:, 2] > 0) & (lengths > 0)
    corners, normals = corners[front], normals[front] / lengths[front, None]
    light = axes @ (_LIGHT_FROM / np.linalg.norm(_LIGHT_FROM))
    brightness = _AMBIENT + (1 - _AMBIENT) * np.clip(normals @ light, 0, 1)
    order = np.argsort(corners[:, :, 2].mean(axis=1))
    base = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    colours = brightness[order, None] * base
    panel.add_collection(PolyCollection(list(corners[order, :, :2]), facecolors=colours, edgecolors=colours, lw=0.2))


def _view_axes() -> FloatArray:
    """Rows: the picture's right, its up and the way to the viewer, in patient axes."""
    towards = _LOOK_FROM / np.linalg.norm(_LOOK_FROM)
    right = np.cross([0.0, 0.0, 1.0], towards)
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(towards, right), towards])
