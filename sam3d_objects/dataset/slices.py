"""Which slices of an organ are used: for training drawn with weights, for evaluation fixed by a seed."""

import hashlib
from collections.abc import Sequence

import numpy as np

from sam3d_objects.arrays import FloatArray, IntArray
from sam3d_objects.dataset.case import PreparedCase
from sam3d_objects.volume import PLANES, through_plane_axis

SMALLEST_SHARE = 0.25  # of the largest slice's area (evaluation.md: "at least a quarter of that area")


def slice_weights(areas: FloatArray | IntArray) -> FloatArray:
    """How likely each slice is drawn in training, (N,) float64 with sum 1.

    Proportional to the area, from a quarter of the largest area on, and 0 below: a slice that shows little of
    the organ says little about it and is not evaluated either, yet every slice that is evaluated is trained
    on.

    Args:
        areas: (N,) area of each slice, any unit, at least one above 0.
    """
    values = np.asarray(areas, dtype=np.float64)
    weights = np.where(values >= SMALLEST_SHARE * values.max(), values, 0.0)
    return weights / weights.sum()


def slice_areas(case: PreparedCase, organ: str, plane_name: str) -> tuple[int, IntArray]:
    """Native index of the organ's first slice in a plane, and the voxels on it and on each next one, (N,)."""
    mask = case.box_mask(organ)
    axis = through_plane_axis(mask.affine, plane_name)
    areas = np.count_nonzero(mask.voxels, axis=tuple(other for other in range(3) if other != axis))
    return case.entry.organs[organ].box_vox[0][axis], areas[1:-1]


def evaluation_slices(
    case: PreparedCase, organ: str, seed: int = 0, planes: Sequence[str] = PLANES
) -> list[tuple[str, str, int]]:
    """The slices on which an organ is scored.

    For each plane the slice of largest area (the first of equals), and a random one of at least a quarter of
    that area, drawn uniformly by a hash of the seed, the case, the organ and the plane; it is another slice
    than the largest unless there is no other.

    Returns:
        (plane name, 'largest' or 'random', native voxel index along the through-plane axis).
    """
    chosen = []
    for plane_name in planes:
        first, areas = slice_areas(case, organ, plane_name)
        largest = int(areas.argmax())
        others = np.flatnonzero(areas >= SMALLEST_SHARE * areas[largest])
        others = others[others != largest] if len(others) > 1 else others
        generator = seeded_generator(seed, case.id, organ, plane_name)
        chosen.append((plane_name, "largest", first + largest))
        chosen.append((plane_name, "random", first + int(generator.choice(others))))
    return chosen


def seeded_generator(*parts: object) -> np.random.Generator:
    """A generator that depends on the words of its seed alone (not on Python's own hash, which varies)."""
    digest = hashlib.sha256(":".join(map(str, parts)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "little"))
