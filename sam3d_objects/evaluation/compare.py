"""Compare: a predicted mesh beside the truth, without any alignment; distances are computed here and nowhere else."""

import itertools
import math

import numpy as np

from sam3d_objects.arrays import BoolArray, FloatArray
from sam3d_objects.evaluation.metrics import Comparison, Overlap, SurfaceDistances
from sam3d_objects.evaluation.surface_elements import SurfaceElements, point_tree, surface_elements
from sam3d_objects.evaluation.truth import CHAMFER_POINTS, Truth, VoxelBox, shifted
from sam3d_objects.mesh import Mesh, inside, sample_surface, solid_fraction
from sam3d_objects.volume import SliceInput, SlicePlane

COARSE_MM = 1.5
"""From this spacing on a voxel is asked at several points: at its centre alone a thin part would be there or not by
chance.
"""
SUPERSAMPLE = 3
MAX_BOX_VOXELS = 1 << 26
_PREDICTION_SEED = 20_241  # not the truth's: a perfect prediction must not score a Chamfer of 0 by equal draws


def check_prediction(mesh: object) -> Mesh:
    """Return `mesh` if it is a solid that can be scored.

    Raises:
        TypeError: it is not a Mesh.
        ValueError: it has no faces, is open or wound inconsistently, or is inside out.
    """
    if not isinstance(mesh, Mesh):
        raise TypeError(f"a predictor must return a Mesh in patient mm, got {type(mesh).__name__}")
    if mesh.is_empty:
        raise ValueError("the predicted mesh has no faces")
    if not mesh.is_watertight:
        raise ValueError("the predicted mesh is open, or its faces do not agree on what is outside")
    if mesh.volume <= 0:
        raise ValueError(f"the predicted mesh is inside out or flat: its volume is {mesh.volume:.6g} mm3")
    return mesh


def rasterise(mesh: Mesh, grid_affine: FloatArray) -> VoxelBox:
    """Fill a closed mesh on the endless grid that `grid_affine` (4, 4), voxel index -> mm, is a part of.

    The box is the mesh's own, so nothing is lost of a mesh that leaves the scan. A voxel belongs to it when its centre
    is inside; where voxels are coarse (a side of `COARSE_MM` or more), when more than half of SUPERSAMPLE^3 points are.

    Raises:
        ValueError: when the box has more than MAX_BOX_VOXELS voxels, or the mesh is open.
    """
    to_index = np.linalg.inv(grid_affine)
    index = mesh.vertices[np.unique(mesh.faces)] @ to_index[:3, :3].T + to_index[:3, 3]
    start = np.floor(index.min(axis=0))
    shape = np.ceil(index.max(axis=0)) + 1 - start
    if shape.prod() > MAX_BOX_VOXELS:
        size_mm = np.ptp(mesh.bounds, axis=0)
        raise ValueError(
            f"the predicted mesh is {size_mm.max():.4g} mm long, {shape.prod():.3g} voxels of the truth's grid; "
            f"more than {MAX_BOX_VOXELS} are not scored"
        )
    start = start.astype(np.int64)
    affine = shifted(grid_affine, start)
    coarse = np.linalg.norm(grid_affine[:3, :3], axis=0).max() >= COARSE_MM
    fraction = solid_fraction(mesh, affine, tuple(int(n) for n in shape), SUPERSAMPLE if coarse else 1)
    return VoxelBox(fraction > 0.5, start, affine)


def cut_mask(mesh: Mesh, plane: SlicePlane) -> BoolArray:
    """(rows, cols) bool: the pixels of a plane whose centres are inside a closed mesh."""
    return inside(mesh, plane.affine, (*plane.shape, 1))[:, :, 0]


def cut_overlap(mesh: Mesh, slice: SliceInput) -> Overlap:
    """The mesh's cut through the slice's plane beside the mask that was given, on the slice's pixels.

    The plane is widened to the whole mesh first, so that what leaves the slice counts against the prediction.
    """
    pixels = slice.plane.mm_to_pixel(list(itertools.product(*mesh.bounds.T)))
    window = []
    for axis in (0, 1):
        low = min(0, math.floor(pixels[:, axis].min()))
        high = max(slice.plane.shape[axis], math.ceil(pixels[:, axis].max()) + 1)
        window += [low, high]
    if math.prod((window[1] - window[0], window[3] - window[2])) > MAX_BOX_VOXELS:
        raise ValueError(f"the predicted mesh spans more than {MAX_BOX_VOXELS} pixels of the slice")
    predicted = cut_mask(mesh, slice.plane.window(*window))
    rows, cols = slice.plane.shape
    seen = predicted[-window[0] : rows - window[0], -window[2] : cols - window[2]]
    return Overlap(
        int(np.count_nonzero(seen & slice.mask)),
        int(np.count_nonzero(predicted)),
        int(np.count_nonzero(slice.mask)),
    )


def _both_ways(prediction: SurfaceElements, truth: SurfaceElements) -> tuple[SurfaceDistances, SurfaceDistances]:
    return (
        SurfaceDistances(prediction.distances_to_mm(truth), prediction.areas_mm2),
        SurfaceDistances(truth.distances_to_mm(prediction), truth.areas_mm2),
    )


def compare_masks(prediction: BoolArray, truth: BoolArray, affine: FloatArray) -> Comparison:
    """Compare two masks (I, J, K) on one grid, voxel index -> mm; without meshes there is no Chamfer (NaN) and no cut.

    Either may be empty: overlaps are then 0 and distances infinite; both empty: every metric is NaN.

    Raises:
        ValueError: on two shapes.
    """
    if prediction.shape != truth.shape:
        raise ValueError(f"expected masks of one shape, got {prediction.shape} and {truth.shape}")
    overlap = Overlap(*(int(np.count_nonzero(mask)) for mask in (prediction & truth, prediction, truth)))
    sides = _both_ways(*(surface_elements(np.asarray(mask, dtype=bool), affine) for mask in (prediction, truth)))
    none = np.zeros(0)
    return Comparison(overlap, abs(np.linalg.det(affine[:3, :3])) / 1000, *sides, none, none, None)


def compare(mesh: Mesh, truth: Truth, slice: SliceInput | None = None) -> Comparison:
    """Compare a predicted mesh (patient mm) with the truth, as it lies: nothing is aligned, scaled or repaired.

    Args:
        mesh: the prediction; may leave the scan.
        truth: the organ.
        slice: what the prediction was made from, for slice_dice; without it that metric is NaN.

    Raises:
        TypeError, ValueError: the prediction is not a closed solid (see `check_prediction`), or it holds no
            voxel.
    """
    mesh = check_prediction(mesh)
    predicted = rasterise(mesh, truth.label.affine)
    voxels = int(np.count_nonzero(predicted.mask))
    if voxels == 0:
        raise ValueError(f"the predicted mesh ({mesh.volume:.3g} mm3) holds no voxel of the truth's grid")
    elements = surface_elements(predicted.mask, predicted.affine)
    points_mm = sample_surface(mesh, CHAMFER_POINTS, np.random.default_rng(_PREDICTION_SEED))[0]
    return Comparison(
        Overlap(predicted.shared_with(truth.box), voxels, truth.voxels),
        truth.label.voxel_volume_mm3 / 1000,
        *_both_ways(elements, truth.elements),
        np.asarray(truth.point_tree.query(points_mm)[0]),
        np.asarray(point_tree(points_mm).query(truth.points_mm)[0]),
        cut_overlap(mesh, slice) if slice is not None else None,
    )
