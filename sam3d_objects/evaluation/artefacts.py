"""Artefacts: a row's mesh, pictures of its cuts, a failed one's traceback, and the true surfaces; .npz, no pickle."""

import itertools
import math
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from sam3d_objects.arrays import AnyArray, BoolArray, FloatArray
from sam3d_objects.evaluation.cases import Case, Material
from sam3d_objects.evaluation.compare import cut_mask
from sam3d_objects.evaluation.rows import Row
from sam3d_objects.files import atomic_path, write_json
from sam3d_objects.mesh import Mesh
from sam3d_objects.volume import PLANES, SlicePlane, cut, through_plane_axis, voxel_plane

FOLDER = "artefacts"
INDEX = "index.json"
_BORDER_MM = 6.0
_DISPLAY_PERCENTILES = (1.0, 99.0)


@dataclass(frozen=True, eq=False)
class View:
    """One picture: a plane through the scan with the true and the predicted cut.

    Args:
        name: of the plane.
        image: (rows, cols) uint8 grey values for display.
        truth, prediction: (rows, cols) bool.
        spacing_mm: (row, col) of a pixel.
    """

    name: str
    image: npt.NDArray[np.uint8]
    truth: BoolArray
    prediction: BoolArray
    spacing_mm: tuple[float, float]


def grey(image: AnyArray, shown: BoolArray | None = None) -> npt.NDArray[np.uint8]:
    """Any intensities (rows, cols) as uint8, from their 1st to their 99th percentile; all 0 for a constant image.

    `shown` (rows, cols) bool are the pixels that count; the others become 0.
    """
    values = np.asarray(image, dtype=np.float64)
    mask = np.ones(values.shape, dtype=bool) if shown is None else shown
    low, high = np.percentile(values[mask], _DISPLAY_PERCENTILES)
    if high <= low:
        return np.zeros(values.shape, dtype=np.uint8)
    scaled = np.clip((values - low) / (high - low), 0, 1)
    return np.where(mask, np.rint(255 * scaled), 0).astype(np.uint8)


def _window(plane: SlicePlane, bounds_mm: FloatArray) -> SlicePlane:
    """The part of a plane that shows a box (2, 3), patient mm, and a border around it."""
    pixels = plane.mm_to_pixel(list(itertools.product(*bounds_mm.T)))
    window = []
    for axis, spacing_mm in enumerate(plane.pixel_spacing_mm):
        border = _BORDER_MM / spacing_mm
        window += [
            math.floor(pixels[:, axis].min() - border),
            math.ceil(pixels[:, axis].max() + border) + 1,
        ]
    return plane.window(*window)


def views(material: Material, mesh: Mesh | None) -> list[View]:
    """The slice that was given, then the two other planes through the middle of the organ.

    Args:
        material: of the case.
        mesh: a prediction that can be scored; None shows the truth alone.
    """
    truth = material.truth
    bounds_mm = truth.mesh.bounds
    if mesh is not None:
        # A prediction far outside must not make the organ a dot: half the organ's size to each side is shown.
        room_mm = np.ptp(bounds_mm, axis=0) / 2
        low, high = bounds_mm[0] - room_mm, bounds_mm[1] + room_mm
        both = np.stack([bounds_mm, np.clip(mesh.bounds, low, high)])
        bounds_mm = np.stack([both[:, 0].min(axis=0), both[:, 1].max(axis=0)])
    middle = truth.label.mm_to_voxel(truth.mesh.bounds.mean(axis=0, keepdims=True))[0]
    middle = np.clip(np.rint(middle), 0, np.array(truth.label.shape) - 1)
    given = material.slice.plane
    planes = [given]
    for name in PLANES:
        if name != given.name:
            planes.append(voxel_plane(truth.label, name, int(middle[through_plane_axis(truth.label.affine, name)])))
    return [_view(material, mesh, _window(plane, bounds_mm)) for plane in planes]


def _view(material: Material, mesh: Mesh | None, plane: SlicePlane) -> View:
    return View(
        plane.name,
        grey(cut(material.scan, plane, order=0)),
        cut(material.truth.label, plane, order=0) != 0,
        cut_mask(mesh, plane) if mesh is not None else np.zeros(plane.shape, dtype=bool),
        plane.pixel_spacing_mm,
    )


def file_name(row: Row) -> str:
    """The artefact's name: readable, safe on any file system, and of this row alone."""
    return _named([row.case, row.organ, row.plane, row.slice_kind, str(row.slice_index), row.system], row.key)


def truth_name(of: Row | Case) -> str:
    """The name of the file with the true surface that a row or a case is compared with."""
    return _named(["truth", of.case, of.organ], (of.case, of.organ))


def _named(words: Sequence[str], key: tuple[object, ...]) -> str:
    readable = "_".join(re.sub(r"[^A-Za-z0-9.-]+", "-", word) for word in words)
    return f"{readable}_{zlib.crc32(repr(key).encode()):08x}.npz"


def save_truth(out: Path, case: Case, material: Material) -> None:
    """Write the true surface of a case's organ, once: `vertices` (V, 3) float32 mm and `faces` (F, 3) int32.

    Raises:
        OSError: it cannot be written.
    """
    path = out / FOLDER / truth_name(case)
    if not path.exists():
        with atomic_path(path) as temporary:
            np.savez_compressed(temporary, **_surface(material.truth.mesh))  # type: ignore[arg-type]  # numpy/numpy#23577


def drop_truths(out: Path, cases: Iterable[Case]) -> None:
    """Remove the true surfaces of cases of the same names, which an evaluation of other data may have left."""
    for case in cases:
        (out / FOLDER / truth_name(case)).unlink(missing_ok=True)


def _surface(mesh: Mesh | None) -> dict[str, AnyArray]:
    if mesh is None:
        return {"vertices": np.zeros((0, 3), np.float32), "faces": np.zeros((0, 3), np.int32)}
    return {"vertices": mesh.vertices.astype(np.float32), "faces": mesh.faces.astype(np.int32)}


def save_artefact(
    out: Path,
    row: Row,
    material: Material,
    mesh: Mesh | None,
    trace: str,
    further: Mapping[str, AnyArray] = MappingProxyType({}),
) -> Path:
    """Write a row's artefact.

    Keys: `vertices` (V, 3) float32 mm and `faces` (F, 3) int32, empty without a prediction; `traceback`; what the
    predictor saw: `slice_image` uint8, `slice_mask`, `slice_spacing_mm` and `slice_corners_mm` (4, 3); `views`, names
    of planes, the first the given one; for view n `view<n>_image` uint8, `view<n>_truth`, `view<n>_prediction` bool,
    `view<n>_spacing_mm`.

    Args:
        out: folder of the evaluation.
        row: whose.
        material: of the case.
        mesh: what was predicted, if anything.
        trace: traceback of a failure, or empty; a failed row's mesh is not cut.
        further: more arrays, by key.

    Raises:
        OSError: it cannot be written.
    """
    slice = material.slice
    arrays: dict[str, Any] = {
        **_surface(mesh),
        "traceback": np.array(trace),
        "slice_image": grey(slice.image, slice.valid),
        "slice_mask": slice.mask,
        "slice_spacing_mm": np.array(slice.plane.pixel_spacing_mm),
        "slice_corners_mm": _corners_mm(slice.plane),
        **further,
    }
    shown = views(material, None if row.failed else mesh)
    arrays["views"] = np.array([view.name for view in shown])
    for number, view in enumerate(shown):
        arrays[f"view{number}_image"] = view.image
        arrays[f"view{number}_truth"] = view.truth
        arrays[f"view{number}_prediction"] = view.prediction
        arrays[f"view{number}_spacing_mm"] = np.array(view.spacing_mm)
    path = out / FOLDER / file_name(row)
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, **arrays)
    return path


def _corners_mm(plane: SlicePlane) -> FloatArray:
    """(4, 3) mm: the outer corners of a plane's pixels, one after the other around it."""
    rows, cols = plane.shape
    pixels = np.array([(0, 0), (0, cols), (rows, cols), (rows, 0)]) - 0.5
    return pixels @ plane.affine[:3, :2].T + plane.affine[:3, 3]


def write_index(out: Path, rows: Sequence[Row]) -> None:
    """Write artefacts/index.json: the rows that have artefacts, with the names of the artefact and of the truth."""
    index = [
        {
            "file": file_name(row),
            "truth": truth_name(row),
            "case": row.case,
            "organ": row.organ,
            "plane": row.plane,
            "slice_kind": row.slice_kind,
            "slice_index": row.slice_index,
            "system": row.system,
            "seed": row.seed,
        }
        for row in rows
        if (out / FOLDER / file_name(row)).is_file()
    ]
    write_json(out / FOLDER / INDEX, index)
