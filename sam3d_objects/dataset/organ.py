"""Is this structure whole? Its parts, its size, and whether the scan's border cuts it."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from sam3d_objects.arrays import BoolArray, FloatArray
from sam3d_objects.volume import Box, box_of

_DIRECTIONS = (("left", "right"), ("posterior", "anterior"), ("inferior", "superior"))


@dataclass(frozen=True)
class OrganCheck:
    """What was found.

    Attributes:
        mask: bool, cut to its box, without crumbs: a scan may have a hundred structures.
        box: slices of the scan that the mask is.
        problems: reason ('cut', 'small', 'parts') -> the same in words.
        notes: what is worth knowing and no problem.
    """

    mask: BoolArray
    box: Box
    problems: dict[str, str]
    notes: tuple[str, ...]


def check_organ(
    mask: BoolArray,
    affine: FloatArray,
    *,
    labels: int,
    min_voxels: int,
    min_extent_vox: int,
    max_part_percent: float,
) -> OrganCheck:
    """Check one structure on its whole native scan.

    Parts hang together over faces, edges and corners. Parts of at most `max_part_percent` of the largest are
    crumbs: they are dropped and noted. A union of several labels may have as many parts as labels.

    Args:
        mask: (I, J, K) bool, not empty.
        affine: (4, 4) voxel index -> RAS mm, to name the border in words.
        labels: of how many labels present in this case the structure is the union.
        min_voxels, min_extent_vox: below these (voxels, shortest box side) it is too small.
        max_part_percent: see above.
    """
    box = box_of(mask)  # numbering a whole scan for one small organ would take seconds
    kept, sizes, dropped = _without_crumbs(mask[box], max_part_percent)
    box, kept = _cut(box, kept)
    problems, notes = {}, []
    if dropped:
        notes.append(f"{len(dropped)} crumbs of {sum(dropped)} voxels in all were dropped")
    if len(sizes) > 1:
        text = f"in {len(sizes)} parts of {', '.join(map(str, sizes[:5]))} voxels"
        if len(sizes) > labels:
            problems["parts"] = text
        else:
            notes.append(f"{text}, as a union of {labels} labels may be")
    borders = _borders(box, mask.shape, affine)
    if borders:
        problems["cut"] = f"cut by the scan's border: touches {' and '.join(borders)}"
    extents = [side.stop - side.start for side in box]
    if sum(sizes) < min_voxels or min(extents) < min_extent_vox:
        problems["small"] = (
            f"too small: {sum(sizes)} voxels in a box of {' x '.join(map(str, extents))} (at least "
            f"{min_voxels} voxels and {min_extent_vox} along each axis are needed)"
        )
    return OrganCheck(kept, box, problems, tuple(notes))


def _without_crumbs(mask: BoolArray, max_part_percent: float) -> tuple[BoolArray, list[int], list[int]]:
    """The mask's large parts, their sizes (largest first), and the sizes of what was dropped."""
    numbered, _ = ndimage.label(mask, np.ones((3, 3, 3)))
    sizes = np.bincount(numbered.ravel())
    sizes[0] = 0
    large = sizes * 100 > max_part_percent * sizes.max()
    dropped = sizes[(sizes > 0) & ~large]
    return large[numbered], sorted(sizes[large].tolist(), reverse=True), dropped.tolist()


def _cut(box: Box, mask: BoolArray) -> tuple[Box, BoolArray]:
    """A mask that lies in a scan as `box` says, cut to what is marked: crumbs may have been what its box was for."""
    inner = box_of(mask)
    first, second, third = (
        slice(outer.start + side.start, outer.start + side.stop) for outer, side in zip(box, inner, strict=True)
    )
    return (first, second, third), mask[inner]


def _borders(box: Box, shape: tuple[int, ...], affine: FloatArray) -> list[str]:
    borders = []
    for axis, side in enumerate(box):
        world = int(np.abs(affine[:3, axis]).argmax())
        rising = bool(affine[world, axis] > 0)
        if side.start == 0:
            borders.append(f"the first voxel plane of axis {axis} ({_DIRECTIONS[world][not rising]})")
        if side.stop == shape[axis]:
            borders.append(f"the last voxel plane of axis {axis} ({_DIRECTIONS[world][rising]})")
    return borders
