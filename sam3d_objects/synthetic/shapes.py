"""Random solids on a grid, the pretraining distribution of the built-in model. Never organs."""

from __future__ import annotations

import numpy as np

from sam3d_objects.synthetic.fields import Field, Float32, log_uniform, random_rotation, smooth_max
from sam3d_objects.synthetic.fitting import fitted
from sam3d_objects.synthetic.primitives import deformed, metaballs, radial_waves, soft_polytope, superquadric
from sam3d_objects.synthetic.tubes import tube

FAMILIES = {"tube": 0.40, "blob": 0.25, "superquadric": 0.15, "boolean": 0.20}


def random_shape(generator: np.random.Generator, resolution: int = 48, family: str | None = None) -> Float32:
    """A random solid as a field (R, R, R) float32: positive inside, near its surface a distance in voxels.

    The solid is one face-connected part, centred, whose longest side spans 0.80 to 0.98 of the grid.

    Args:
        generator: the only source of randomness; the same state gives the same shape.
        resolution: R, voxels a side.
        family: one of FAMILIES; None draws one by their shares.

    Raises:
        ValueError: `resolution` is below 16 or `family` is unknown.
    """
    if resolution < 16:
        raise ValueError(f"random_shape: resolution must be at least 16 voxels, got {resolution}")
    if family is not None and family not in FAMILIES:
        raise ValueError(f"random_shape: family must be one of {sorted(FAMILIES)}, got {family!r}")
    while True:
        chosen = family or str(generator.choice(list(FAMILIES), p=list(FAMILIES.values())))
        shape = fitted(random_solid(generator, chosen), generator, resolution)
        if shape is not None:
            return shape


def random_solid(generator: np.random.Generator, family: str) -> Field:
    """A random solid of one of FAMILIES, turned and stretched at random, as a field over points (3, N)."""
    if family == "boolean":
        return _placed(generator, _boolean(generator), stretch=0.15)
    return _placed(generator, _simple(generator, family), stretch=0.22)


def _simple(generator: np.random.Generator, family: str) -> Field:
    draw = generator.random()
    if family == "tube":
        return tube(generator)
    if family == "superquadric":
        return deformed(generator, superquadric(generator))
    if draw < 0.4:
        return metaballs(generator)
    if draw < 0.65:
        return radial_waves(generator)
    if draw < 0.85:
        return deformed(generator, _placed(generator, radial_waves(generator), stretch=0.35), 0.9)
    return deformed(generator, soft_polytope(generator), 0.6)


def _placed(generator: np.random.Generator, field: Field, stretch: float, shift: float = 0.0) -> Field:
    """`field` turned by two uniform rotations with a log-normal stretch along three axes between them."""
    log_scale = np.clip(generator.normal(0, stretch, size=3), -0.5, 0.5)
    first, second = random_rotation(generator), random_rotation(generator)
    matrix = (second @ np.diag(np.exp(log_scale - log_scale.mean())) @ first).astype(np.float32)
    offset = (shift * random_rotation(generator)[:, :1]).astype(np.float32)
    return lambda points: field(matrix @ (points - offset))


def _boolean(generator: np.random.Generator) -> Field:
    """Two or three simple solids: smoothly united, or the first one dented by the others."""
    families = [
        str(f) for f in generator.choice(["tube", "blob", "superquadric"], size=3, p=[0.4, 0.35, 0.25])
    ]
    base = _simple(generator, families[0])
    for other in families[1 : int(generator.integers(2, 4))]:
        softness = np.float32(generator.uniform(0.03, 0.2))
        if generator.random() < 0.55:
            part = _scaled(_simple(generator, other), log_uniform(generator, 0.45, 1.0))
            base = _united(base, _placed(generator, part, 0.2, generator.uniform(0.1, 0.7)), softness)
        else:
            part = _scaled(_simple(generator, other), log_uniform(generator, 0.4, 0.8))
            dent = _placed(generator, part, 0.2, generator.uniform(0.4, 0.9))
            base = _dented(base, dent, softness)
    return base


def _scaled(field: Field, factor: float) -> Field:
    scale = np.float32(factor)
    return lambda points: field(points / scale) * scale


def _united(first: Field, second: Field, softness: np.float32) -> Field:
    return lambda points: smooth_max(first(points), second(points), softness)


def _dented(first: Field, second: Field, softness: np.float32) -> Field:
    return lambda points: -smooth_max(-first(points), second(points), softness)
