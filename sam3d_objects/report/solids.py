"""Solids: prediction and true organ in 3D, coloured by distance; turned on screen, still on paper."""

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from sam3d_objects.arrays import AnyArray, FloatArray
from sam3d_objects.report.charts import GREY, Chart, Trace, typed
from sam3d_objects.report.surfaces import Surface

COLOURS = "RdBu_r"
"""Blue, white, red: told apart by colour-blind readers; the same in Plotly and matplotlib."""

_NEAR, _FAR, _UP = 0.75, 1.5, 0.55  # of the viewer: from the broad side, a little from the other and from above
_LETTERS = (("L", "R"), ("P", "A"), ("I", "S"))  # the ends of RAS axes
_ALL_NORMALS = {"vertexnormalsepsilon": 0, "facenormalsepsilon": 0}  # Plotly leaves those of small triangles out
_STOPS = 11
_ROOM = 0.15  # of the organ's size, on each side, for the frame of the slice
_LINE_MM = 0.2  # a line on the very edge of the view would be cut away
_FILL = 1.95  # how much of its half of the view an object takes
_GHOST_OPACITY = 0.18


def scale_mm(surfaces: Sequence[Surface]) -> float:
    """One colour scale for all cases that are shown: what 95 % of the middle one lies within, from 2 to 10 mm."""
    reaches = [np.quantile(np.abs(one.distance_mm), 0.95) for one in surfaces if np.isfinite(one.distance_mm).all()]
    return float(np.clip(np.ceil(np.median(reaches or [2.0])), 2.0, 10.0))


def solid_chart(
    predicted: Surface | None, truth: Surface | None, corners_mm: AnyArray | None, limit_mm: float, words: str
) -> Chart:
    """The interactive view; at least one surface must be there.

    Args:
        predicted, truth: above and below.
        corners_mm: (4, 3) of the slice that was given, patient mm, or None.
        limit_mm: end of the colour scale.
        words: which case it is.
    """
    shown = [surface for surface in (predicted, truth) if surface is not None]
    box = _box(shown)
    if corners_mm is not None:
        room_mm = _ROOM * (box[1] - box[0])
        corners_mm = np.clip(corners_mm, box[0] - room_mm, box[1] + room_mm)  # a slice of a whole scan is far larger
        low, high = corners_mm.min(axis=0) - _LINE_MM, corners_mm.max(axis=0) + _LINE_MM
        box = np.stack([np.minimum(box[0], low), np.maximum(box[1], high)])
    data: list[Trace] = []
    scenes: dict[str, Any] = {}
    for number, (surface, other) in enumerate(((predicted, truth), (truth, None))):
        scene = "scene" if number == 0 else "scene2"
        if surface is not None:
            data.append({**_trace(surface, limit_mm), "scene": scene, "showscale": False})
        if other is not None:
            data.append({**_ghost(other), "scene": scene})
        data.append({**_letters(box), "scene": scene})
        if corners_mm is not None:
            data.append({**_frame(corners_mm), "scene": scene})
        scenes[scene] = _scene(box, number)
    layout = {
        **scenes,
        "showlegend": False,
        "margin": {"l": 0, "r": 0, "t": 0, "b": 0},
    }
    return Chart("", f"Turnable 3D view, {alt(predicted, words)}", "", data, layout, 340)


def alt(predicted: Surface | None, words: str) -> str:
    """What the picture of two surfaces shows, in words."""
    if predicted is None:
        return f"{words}: the true organ's surface alone, there is no prediction."
    if not np.isfinite(predicted.distance_mm).all():
        return f"{words}: the predicted surface alone, the true one was not saved."
    low, middle, high = np.quantile(predicted.distance_mm, [0.05, 0.5, 0.95])
    return (
        f"{words}: predicted and true surface, coloured by the distance between them; the prediction "
        f"lies from {low:+.1f} to {high:+.1f} mm off the true surface (5 % to 95 %), median {middle:+.1f} mm."
    )


def colourscale() -> list[list[Any]]:
    """The colour scale as Plotly reads it: [place from 0 to 1, colour]."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return [[float(stop), to_hex(colormaps[COLOURS](stop))] for stop in np.linspace(0, 1, _STOPS)]


def _box(surfaces: Sequence[Surface]) -> FloatArray:
    """(2, 3) mm around all surfaces, with a margin for the letters."""
    points = np.concatenate([surface.vertices for surface in surfaces])
    low, high = points.min(axis=0), points.max(axis=0)
    margin_mm = 0.1 * float((high - low).max())
    return np.stack([low - margin_mm, high + margin_mm])


def _mesh(surface: Surface) -> Trace:
    points, corners = surface.vertices.astype(np.float32), surface.faces
    small = corners.astype(np.uint16 if len(points) <= np.iinfo(np.uint16).max else np.int32)
    return {
        "type": "mesh3d",
        **{name: typed(points[:, axis]) for axis, name in enumerate("xyz")},
        **{name: typed(small[:, corner]) for corner, name in enumerate("ijk")},
        "lighting": {
            "ambient": 0.72,
            "diffuse": 0.55,
            "specular": 0.08,
            "roughness": 0.9,
            "fresnel": 0.05,
            **_ALL_NORMALS,
        },
        "lightposition": {"x": 2000, "y": 4000, "z": 6000},
    }


def _trace(surface: Surface, limit_mm: float) -> Trace:
    if not np.isfinite(surface.distance_mm).all():
        return {**_mesh(surface), "color": GREY, "hoverinfo": "skip"}
    return {
        **_mesh(surface),
        "intensity": typed(surface.distance_mm.astype(np.float32)),
        "colorscale": colourscale(),
        "cmin": -limit_mm,
        "cmax": limit_mm,
        "hovertemplate": "%{intensity:+.1f} mm<extra></extra>",
    }


def _ghost(surface: Surface) -> Trace:
    return {**_mesh(surface), "color": GREY, "opacity": _GHOST_OPACITY, "hoverinfo": "skip"}


def _letters(box: FloatArray) -> Trace:
    middle = box.mean(axis=0)
    places, letters = [], []
    for axis, names in enumerate(_LETTERS):
        for end, name in enumerate(names):
            place = middle.copy()
            place[axis] = box[end, axis]
            places.append(place)
            letters.append(name)
    columns = np.round(np.array(places), 2).T.tolist()
    return {
        "type": "scatter3d",
        "mode": "text",
        **dict(zip("xyz", columns, strict=True)),
        "text": letters,
        "textfont": {"color": GREY, "size": 13},
        "hoverinfo": "skip",
    }


def _frame(corners_mm: AnyArray) -> Trace:
    closed = np.concatenate([corners_mm, corners_mm[:1]])
    columns = np.round(closed, 2).T.tolist()
    return {
        "type": "scatter3d",
        "mode": "lines",
        **dict(zip("xyz", columns, strict=True)),
        "line": {"color": "#c9a400", "width": 4},
        "hoverinfo": "skip",
    }


def _eye(box: FloatArray) -> tuple[float, float, float]:
    """Where the viewer is: in front of the patient, or at the right side of what is longer than it is wide."""
    width_mm, length_mm, _ = box[1] - box[0]
    return (_FAR, _NEAR, _UP) if length_mm > width_mm else (_NEAR, _FAR, _UP)


def _scene(box: FloatArray, number: int) -> dict[str, Any]:
    sides_mm = box[1] - box[0]
    axes = {
        f"{name}axis": {"visible": False, "range": [round(float(end), 2) for end in box[:, axis]]}
        for axis, name in enumerate("xyz")
    }
    return {
        **axes,
        "aspectmode": "manual",
        "aspectratio": {name: _FILL * float(side / sides_mm.max()) for name, side in zip("xyz", sides_mm, strict=True)},
        "domain": {"x": [0, 1], "y": [[0.5, 0.96], [0.0, 0.46]][number]},
        "camera": {"eye": dict(zip("xyz", _eye(box), strict=True)), "projection": {"type": "orthographic"}},
        "dragmode": "orbit",
    }


def poster(predicted: Surface | None, truth: Surface | None, limit_mm: float) -> str:
    """The same view as a PNG's data URI: for paper, and where the browser cannot draw in 3D."""
    from matplotlib.figure import Figure

    box = _box([surface for surface in (predicted, truth) if surface is not None])
    figure = Figure(figsize=(5.6, 5.6))
    figure.patch.set_alpha(0)
    for number, surface in enumerate((predicted, truth)):
        axes: Any = figure.add_axes((0, 0.5 - 0.5 * number, 1, 0.5), projection="3d", proj_type="ortho")
        axes.set_axis_off()
        axes.patch.set_alpha(0)
        axes.set(xlim=box[:, 0], ylim=box[:, 1], zlim=box[:, 2])
        axes.set_box_aspect(box[1] - box[0], zoom=1.45)
        across, along, up = _eye(box)
        elevation, azimuth = np.arctan2(up, np.hypot(across, along)), np.arctan2(along, across)
        axes.view_init(elev=float(np.degrees(elevation)), azim=float(np.degrees(azimuth)))
        if surface is not None:
            axes.add_collection3d(_patches(surface, limit_mm), autolim=False)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=100)
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"


def _patches(surface: Surface, limit_mm: float) -> Any:
    from matplotlib import colormaps
    from matplotlib.colors import to_rgba
    from mpl_toolkits.mplot3d.art3d import Poly3DCollection

    corners = surface.vertices[surface.faces]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = cross / np.maximum(np.linalg.norm(cross, axis=1, keepdims=True), 1e-12)
    light = np.array([0.3, 0.8, 0.6]) / np.linalg.norm([0.3, 0.8, 0.6])
    shade = 0.55 + 0.45 * np.clip(normals @ light, 0, 1)
    if np.isfinite(surface.distance_mm).all():
        colours = colormaps[COLOURS](0.5 + surface.distance_mm[surface.faces].mean(axis=1) / (2 * limit_mm))
    else:
        colours = np.tile(to_rgba(GREY), (len(corners), 1))
    colours[:, :3] *= shade[:, None]
    return Poly3DCollection(corners, facecolors=colours, edgecolors="none", linewidths=0, antialiaseds=False)
