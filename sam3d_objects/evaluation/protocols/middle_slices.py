"""Middle slices: what `slice3d-2602` shows of an organ, and the cases that are made of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from sam3d_objects.arrays import IntArray
from sam3d_objects.dataset import CaseEntry, Manifest, PreparedCase
from sam3d_objects.dataset.slices import slice_areas
from sam3d_objects.evaluation.cases import Case, Material, organ_truth, prepared_cases
from sam3d_objects.volume import SliceInput

SLICE_KIND = "middle"
PLANE = "axial"
WHITE = 255.0


def middle_index(areas: IntArray) -> int:
    """The middle of an organ's extent, as an index of areas (N,): the first of two; where the organ is not on it, the
    nearest slice that it is on.

    Raises:
        ValueError: the organ is on none.
    """
    marked = np.flatnonzero(areas)
    if len(marked) == 0:
        raise ValueError("expected a slice with the organ on it, got areas of 0 alone")
    middle = (marked[0] + marked[-1]) // 2
    return int(marked[np.abs(marked - middle).argmin()])


def eight_bit(slice: SliceInput) -> SliceInput:
    """Prepare a slice as the published code does, in its order.

    It is cut to the mask's box, everything beside the mask becomes 0, and smallest to largest value become 0 to 255,
    rounded. Where the organ has values below 0 (fat, lung), the background is therefore not black. A constant box
    becomes 0. All pixels are valid, and nothing else of the scan is known.
    """
    window = []
    for axis in (0, 1):
        marked = np.flatnonzero(slice.mask.any(axis=1 - axis))
        window += [int(marked[0]), int(marked[-1]) + 1]
    box = np.s_[window[0] : window[1], window[2] : window[3]]
    mask = slice.mask[box]
    values = np.where(mask, slice.image[box], np.float32(0)).astype(np.float64)
    low, high = values.min(), values.max()
    levels = np.rint((values - low) / (high - low) * WHITE) if high > low else np.zeros_like(values)
    return SliceInput(levels.astype(np.float32), mask, slice.plane.window(*window), np.ones_like(mask))


def middle_cases(data_root: Path, organs: Sequence[str] | None = None, split: str = "test") -> list[Case]:
    """The cases of the protocol: the axial slice in the middle of each organ of a prepared folder.

    Args:
        data_root: the prepared folder.
        organs: structure names; None takes all.
        split: `test`, `val` or `train`.

    Raises:
        ValueError: as `prepared_cases`.
    """
    entries = {entry.id: entry for entry in Manifest.load(data_root).of_split(split)}
    cases = []
    for case in prepared_cases(data_root, organs, split=split, planes=(PLANE,)):
        if case.slice_kind != "largest":
            continue
        entry = entries[case.case]
        first, areas = slice_areas(PreparedCase(data_root, entry), case.organ, PLANE)
        index = first + middle_index(areas)
        load = partial(_material, data_root, entry, case.organ, index)
        cases.append(replace(case, slice_kind=SLICE_KIND, slice_index=index, load=load))
    return cases


def _material(data_root: Path, entry: CaseEntry, organ: str, index: int) -> Material:
    prepared = PreparedCase(data_root, entry)
    slice = eight_bit(prepared.slice(organ, PLANE, index))
    return Material(slice, organ_truth(prepared, organ), prepared.image)
