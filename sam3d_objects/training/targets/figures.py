"""How good targets are, in mm and for each organ: in the data set's manifest, and as a table for people."""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from sam3d_objects.dataset import Manifest
from sam3d_objects.dataset.target_figures import TargetFigures, TargetRecord
from sam3d_objects.training.targets.latent import LatentTarget
from sam3d_objects.training.targets.structure import StructureTarget

FiguresOfShapes = Mapping[tuple[str, str, int], TargetFigures]
"""Figures by case, organ and variant."""


def figures_of(target: StructureTarget | LatentTarget, size_mm: float) -> TargetFigures:
    """Return a target's figures; `size_mm` is the longest side of its shape."""
    distance = target.distance.scaled(size_mm)
    measured = [value if math.isfinite(value) else None for value in (distance.mean, distance.p95)]
    return TargetFigures(target.iou if isinstance(target, StructureTarget) else None, *measured)


def note_figures(
    data_root: Path, stage: str, figures: FiguresOfShapes, base: str, fingerprint: str, source: str
) -> None:
    """Write the figures of organs as they are (variant 0) to a data set's manifest, unless they are there already.

    Args:
        data_root: prepared folder.
        stage: `structure` or `latent`.
        base, fingerprint: name of the base model, and SHA-256 of the weights of the half that made the targets.
        source: `encoder` or `inversion`.
    """
    cases: dict[str, dict[str, TargetFigures]] = {}
    for (case, organ, variant), values in figures.items():
        if variant == 0:
            cases.setdefault(case, {})[organ] = values
    manifest = Manifest.load(data_root)
    noted = manifest.with_targets(stage, TargetRecord(base, fingerprint, source, cases))
    if noted != manifest:
        noted.save(data_root)


def figure_table(figures: FiguresOfShapes) -> str:
    """Return a table of the organs: shapes, mean and least IoU, mean distances in mm, and the worst shape."""
    organs = sorted({organ for _, organ, _ in figures})
    rows: list[tuple[str, ...]] = [("structure", "shapes", "IoU", "least", "ASSD mm", "95 % mm", "farthest")]
    for organ in organs:
        shapes = {key: values for key, values in figures.items() if key[1] == organ}
        ious = [values.iou for values in shapes.values() if values.iou is not None]
        assd = {key: _or_infinity(values.assd_mm) for key, values in shapes.items()}
        p95 = [_or_infinity(values.p95_mm) for values in shapes.values()]
        worst = max(assd, key=lambda key: assd[key])
        overlap = [f"{np.mean(ious):.3f}", f"{min(ious):.3f}"] if ious else ["-", "-"]
        distances = [f"{np.mean(list(assd.values())):.3f}", f"{np.mean(p95):.3f}"]
        farthest = f"{'/'.join(map(str, worst))} ({assd[worst]:.3f})"
        rows.append((organ, str(len(shapes)), *overlap, *distances, farthest))
    return _aligned(rows)


def _or_infinity(value: float | None) -> float:
    return math.inf if value is None else value


def _aligned(rows: Iterable[tuple[str, ...]]) -> str:
    rows = list(rows)
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)
