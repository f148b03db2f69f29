"""What a model's samples get wrong, in millimetres: place in the slice and through it, size, and the shape alone.

    python -m benchmarks.sample_errors --checkpoint runs/hippocampus/best --data_root data/hippocampus --out runs/errors

For each slice K samples are drawn and fitted to the mask. A row of the table is a plane: how far the samples' centres
are from the true one, and their sizes from the true size; the Dice of their shapes with the true shape, each in a unit
box of its own, where place and size do not count. "One" is the median over samples, of which a few lie far off; "all"
that of their weighted mean. Beside the shapes stands what needs no slice: the mean organ of the training patients, and
one of them at random. A model whose shapes are no better has not learnt to look. Results: OUT/sample_errors.md and
.json.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.progress import track

from benchmarks.oracles import EVEN, Drawn, arguments, spread_cases, write_found
from sam3d_objects.arrays import FloatArray
from sam3d_objects.cli.evaluate import check_fits
from sam3d_objects.cli.models import load_adapted
from sam3d_objects.config import ReconstructOptions
from sam3d_objects.dataset import Manifest, TS_SAM3D_Dataset
from sam3d_objects.mesh import Mesh, occupancy_grid
from sam3d_objects.reconstruct import Reconstructor
from sam3d_objects.volume import PLANES

COLUMNS = {
    "in_plane_mm": "in the plane, mm",
    "through_mm": "through it, mm",
    "size_percent": "size, %",
    "shape_dice": "shape, Dice",
}
BLIND = ("mean organ", "random organ")  # shapes that need no slice


def soft_dice(a: FloatArray, b: FloatArray) -> float:
    """Dice of two solids (R, R, R) in [0, 1]: twice the lesser share over both."""
    return float(2 * np.minimum(a, b).sum() / (a.sum() + b.sum()))


def errors_of(drawn: Drawn) -> dict[str, float]:
    """Return `one NAME` and `all NAME` for each of COLUMNS, of one slice's fitted samples."""
    samples, truth = drawn.fitted, drawn.occupancy.astype(np.float64)
    weights = np.array([sample.weight for sample in samples])
    weights /= weights.sum()
    off_mm = np.array([drawn.camera.to_camera(sample.frame.center_mm) for sample in samples])
    off_mm -= drawn.camera.to_camera(drawn.frame.center_mm)
    growth = np.log([sample.frame.size_mm / drawn.frame.size_mm for sample in samples])
    shapes = np.stack([sample.field for sample in samples])
    mean_mm, mean_shape = weights @ off_mm, np.tensordot(weights, shapes, 1)
    return {
        "one in_plane_mm": float(np.median(np.linalg.norm(off_mm[:, :2], axis=1))),
        "all in_plane_mm": float(np.linalg.norm(mean_mm[:2])),
        "one through_mm": float(np.median(np.abs(off_mm[:, 2]))),
        "all through_mm": float(abs(mean_mm[2])),
        "one size_percent": 100 * float(np.expm1(np.median(np.abs(growth)))),
        "all size_percent": 100 * float(np.expm1(abs(weights @ growth))),
        "one shape_dice": float(np.median([soft_dice(shape, truth) for shape in shapes])),
        "all shape_dice": soft_dice((mean_shape > EVEN).astype(np.float64), truth),
    }


def training_shapes(data_root: Path, organ: str, resolution: int, occupancy: str) -> FloatArray:
    """Return an organ of every training patient in its unit box, (N, R, R, R)."""
    dataset = TS_SAM3D_Dataset(data_root, "train", [organ])
    grids = []
    for case, name in dataset.pairs:
        mesh, frame = dataset.geometry(case, name, 0), dataset.frame(case, name, 0)
        grids.append(occupancy_grid(Mesh(frame.to_object(mesh.vertices), mesh.faces), resolution, occupancy))
    return np.stack(grids).astype(np.float64)


def measure(
    checkpoint: Path, data_root: Path, options: ReconstructOptions, split: str, most: int | None
) -> list[tuple[str, dict[str, float]]]:
    """Return (plane, errors) of each slice."""
    model, contract = load_adapted(checkpoint, options)
    check_fits(contract, Manifest.load(data_root))
    reconstructor = Reconstructor(model, dataclasses.replace(contract, fit=False), "structure")
    settings = model.settings
    known: dict[str, FloatArray] = {}
    rows = []
    for case in track(spread_cases(data_root, options.seed, split, most), description="slices"):
        if case.organ not in known:
            known[case.organ] = training_shapes(data_root, case.organ, settings.resolution, settings.occupancy)
        drawn = Drawn(reconstructor, case.load(), options.seed)
        truth, others = drawn.occupancy.astype(np.float64), known[case.organ]
        mean = soft_dice((others.mean(axis=0) > EVEN).astype(np.float64), truth)
        random = float(np.mean([soft_dice(other, truth) for other in others]))
        rows.append((case.plane, errors_of(drawn) | dict(zip(BLIND, (mean, random), strict=True))))
    return rows


def summary(rows: Sequence[tuple[str, dict[str, float]]]) -> tuple[dict[str, dict[str, float]], str]:
    """Return the means by plane and over all slices, as numbers and as Markdown."""
    found = {}
    for plane in (*PLANES, "all"):
        own = [errors for name, errors in rows if plane in (name, "all")]
        if own:
            found[plane] = {name: float(np.mean([errors[name] for errors in own])) for name in own[0]}
            found[plane]["slices"] = len(own)
    titles = {f"{how} {name}": f"{title}, {how}" for name, title in COLUMNS.items() for how in ("one", "all")}
    titles |= {name: name for name in BLIND}
    lines = [f"| plane | slices | {' | '.join(titles.values())} |", "|---" * (len(titles) + 2) + "|"]
    for plane, means in found.items():
        cells = [f"{means[name]:.{3 if 'dice' in name or name in BLIND else 1}f}" for name in titles]
        lines.append(f"| {plane} | {means['slices']:.0f} | {' | '.join(cells)} |")
    return found, "\n".join([*lines, ""])


def main() -> None:
    """Measure and write the table."""
    given = arguments(__doc__, "val")
    options = ReconstructOptions(
        base=given.base, samples=given.samples, device=given.device, seed=given.seed, stages="structure"
    )
    found, text = summary(measure(given.checkpoint, given.data_root, options, given.split, given.most))
    write_found(given.out, "sample_errors", found, text)


if __name__ == "__main__":
    main()
