"""Stated spread: a prediction that says how sure it is of each place, and whether that was so."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from sam3d_objects.arrays import AnyArray
from sam3d_objects.evaluation.artefacts import FOLDER, file_name
from sam3d_objects.evaluation.calibration import Calibration, calibration_of, pooled_calibration
from sam3d_objects.evaluation.predictor import Stated
from sam3d_objects.evaluation.rows import Row
from sam3d_objects.evaluation.truth import Truth
from sam3d_objects.mesh import Mesh

# Enough for a share to a few percent; exact distances of all faces would take longer than predicting.
_FACES = 1000


def stated_arrays(stated: Stated, truth: Truth) -> dict[str, AnyArray]:
    """What a row's artefact keeps of a stated spread; empty where there is none.

    `within` (L,), `spread_mean_mm` and `distance_mean_mm`, as `Calibration` has them, on faces evenly taken from the
    mesh, 1,000 at most.
    """
    part = _thinned(stated.mesh)
    spread_mm = stated.spread(part)
    if spread_mm is None:
        return {}
    found = calibration_of(part, spread_mm, truth.mesh)
    return {
        "within": np.array(found.within),
        "spread_mean_mm": np.array(found.spread_mm),
        "distance_mean_mm": np.array(found.distance_mm),
    }


def _thinned(mesh: Mesh) -> Mesh:
    """Every n-th face of a mesh, and the vertices of these; it is open."""
    faces = mesh.faces[:: -(-len(mesh.faces) // _FACES)]
    used, inverse = np.unique(faces, return_inverse=True)
    return Mesh(mesh.vertices[used], inverse.reshape(faces.shape))


def stated_calibration(out: Path, rows: Iterable[Row]) -> Calibration | None:
    """The mean calibration of rows whose artefacts lie in an evaluation's folder; None where none stated a spread."""
    parts = []
    for row in rows:
        path = out / FOLDER / file_name(row)
        if not path.is_file():
            continue
        with np.load(path, allow_pickle=False) as kept:
            if "within" in kept.files:
                means = float(kept["spread_mean_mm"]), float(kept["distance_mean_mm"])
                parts.append(Calibration(tuple(kept["within"].tolist()), 1, *means))
    return pooled_calibration(parts) if parts else None
