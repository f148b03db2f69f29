"""Rasterise: a predicted mesh becomes a mask on the truth's grid, and what is odd about it is said."""

import numpy as np

from sam3d_objects.arrays import FloatArray
from sam3d_objects.evaluation.truth import Truth, VoxelBox, shifted
from sam3d_objects.mesh import Mesh
from sam3d_objects.mesh.winding import Windings, lines_met, used_bounds, windings

COARSE_MM = 1.5
"""From this spacing on a voxel is asked at several points: at its centre alone a thin part would be there or not by
chance.
"""
SUPERSAMPLE = 3
MAX_BOX_VOXELS = 1 << 26
MAX_TIMES_TRUTH = 4
"""A prediction's box may have so many times the voxels of the truth's, where that is more: lungs in a fine scan."""
MAX_CROSSINGS = 1 << 24
"""Pairs of a triangle and a line of the grid that are looked at; a surface of this size is tangled, not large."""
MAX_ODD_SHARE = 0.05
"""Of what a mesh encloses may so much overlap or be inside out; beyond, it is no surface of a solid and is not scored.
A tangle of random faces would otherwise hold most of its box, and score.
"""


def check_prediction(mesh: object) -> Mesh:
    """Return `mesh` if it is a solid that can be scored.

    Raises:
        TypeError: it is not a Mesh.
        ValueError: it has no faces or a vertex that is not finite, is open or wound inconsistently, or is inside out.
    """
    if not isinstance(mesh, Mesh):
        raise TypeError(f"a predictor must return a Mesh in patient mm, got {type(mesh).__name__}")
    if mesh.is_empty:
        raise ValueError("the predicted mesh has no faces")
    if not np.isfinite(mesh.vertices).all():  # a Mesh is checked when it is made, but its arrays can be written to
        raise ValueError("the predicted mesh has vertices that are not finite")
    if not mesh.is_watertight:
        raise ValueError(
            "the predicted mesh is open, or its faces do not agree on what is outside; "
            "vertices that are repeated at one place, as in an STL file, are to be merged first"
        )
    if not mesh.volume > 0:
        raise ValueError(f"the predicted mesh is inside out or flat: its volume is {mesh.volume:.6g} mm3")
    return mesh


def rasterise(mesh: Mesh, grid_affine: FloatArray, at_most: int | None = None) -> VoxelBox:
    """Fill a closed mesh on the endless grid that `grid_affine` (4, 4), voxel index -> mm, is a part of.

    The box is the mesh's own, so nothing is lost of a mesh that leaves the scan. A voxel belongs to it when the mesh
    winds outward about its centre; where voxels are coarse (a side of `COARSE_MM` or more), about more than half of
    SUPERSAMPLE^3 points. Where none has so many, but the mesh is as voluminous as half a voxel, those that have the
    most belong to it: the surface of an organ of one coarse voxel is rounder than its voxel, and would not hold it.
    Where the mesh crosses itself, parts that overlap are a union, parts that are inside out hold nothing, and the box
    carries a note.

    Args:
        mesh: closed, patient mm.
        grid_affine: see above.
        at_most: voxels that the box may have; None takes MAX_BOX_VOXELS.

    Raises:
        ValueError: when the box has more than `at_most` voxels, the mesh is so tangled that more than
            MAX_CROSSINGS crossings would have to be looked at, more than MAX_ODD_SHARE of what it encloses overlaps
            or is inside out, or it is open.
    """
    to_index = np.linalg.inv(grid_affine)
    index = mesh.vertices @ to_index[:3, :3].T + to_index[:3, 3]
    low, high = used_bounds(index, mesh.faces)
    start = np.floor(low)
    shape = np.ceil(high) + 1 - start
    most = MAX_BOX_VOXELS if at_most is None else at_most
    if shape.prod() > most:
        size_mm = np.ptp(mesh.bounds, axis=0)
        raise ValueError(
            f"the predicted mesh is {size_mm.max():.4g} mm long, {shape.prod():.3g} voxels of the truth's grid; "
            f"more than {most} are not scored"
        )
    check_crossings(index, mesh)
    start = start.astype(np.int64)
    affine = shifted(grid_affine, start)
    coarse = np.linalg.norm(grid_affine[:3, :3], axis=0).max() >= COARSE_MM
    found = windings(mesh, affine, tuple(int(n) for n in shape), SUPERSAMPLE if coarse else 1)
    mask, largest = found.fraction > 0.5, float(found.fraction.max())
    if largest <= 0.5 and float(found.fraction.sum()) >= 0.5:
        mask = found.fraction == largest
    return VoxelBox(mask, start, affine, _note(found))


def rasterise_beside(mesh: Mesh, truth: Truth) -> VoxelBox:
    """Fill a prediction on the grid of the truth that it is compared with; see `rasterise`."""
    at_most = max(MAX_BOX_VOXELS, MAX_TIMES_TRUTH * truth.box.mask.size)
    return rasterise(mesh, truth.label.affine, at_most)


def check_crossings(index: FloatArray, mesh: Mesh) -> None:
    """Raise ValueError where filling a mesh with vertices `index` (V, 3), grid units, would take MAX_CROSSINGS."""
    low, high = lines_met(index, mesh.faces)
    rows, cols = np.maximum(high - low + 1, 0).T
    crossings = rows @ cols
    if crossings > MAX_CROSSINGS:
        raise ValueError(
            f"the predicted mesh is tangled: its {len(mesh.faces):,} faces cover {crossings:.3g} lines of a "
            f"grid; more than {MAX_CROSSINGS:,} are not scored"
        )


def _note(found: Windings) -> str:
    """What a crossing of the mesh with itself did; a ValueError where it did too much."""
    wound = max(found.outward + found.inverted, 1)
    odd = (("its parts overlap", found.repeated), ("it is inside out", found.inverted))
    said = " and ".join(f"{what} in {100 * count / wound:.3g} %" for what, count in odd if count)
    if not said:
        return ""
    note = f"the predicted mesh intersects itself: {said} of what it encloses"
    if found.repeated + found.inverted > MAX_ODD_SHARE * wound:
        raise ValueError(f"{note}; above {100 * MAX_ODD_SHARE:g} % it bounds no solid: unite its parts first")
    return note
