"""Compare: a predicted mesh beside the truth, without any alignment; distances are computed here and nowhere else."""

import math
from functools import partial

import numpy as np

from sam3d_objects.arrays import BoolArray, FloatArray
from sam3d_objects.evaluation.metrics import Comparison, Overlap, SurfaceDistances
from sam3d_objects.evaluation.rasterise import MAX_BOX_VOXELS, check_crossings, check_prediction, rasterise_beside
from sam3d_objects.evaluation.shape_only import without_place_and_size
from sam3d_objects.evaluation.surface_elements import SurfaceElements, point_tree, surface_elements, tree_distances_mm
from sam3d_objects.evaluation.truth import CHAMFER_POINTS, Truth, VoxelBox
from sam3d_objects.mesh import Mesh, sample_surface
from sam3d_objects.mesh.winding import used_bounds, windings
from sam3d_objects.volume import SliceInput, SlicePlane

_PREDICTION_SEED = 20_241  # not the truth's: a perfect prediction must not score a Chamfer of 0 by equal draws
_MANY_FACES = 500_000


def cut_mask(mesh: Mesh, plane: SlicePlane) -> BoolArray:
    """(rows, cols) bool: the pixels of a plane about whose centres a closed mesh winds outward."""
    return windings(mesh, plane.affine, (*plane.shape, 1)).fraction[:, :, 0] > 0


def cut_overlap(mesh: Mesh, slice: SliceInput) -> Overlap:
    """The mesh's cut through the slice's plane beside the mask that was given, on the slice's pixels.

    The plane is widened to the whole mesh first, so that what leaves the slice counts against the prediction.
    """
    pixels = slice.plane.mm_to_pixel(mesh.vertices)
    lowest, highest = used_bounds(pixels, mesh.faces)
    window = []
    for axis in (0, 1):
        window += [min(0, math.floor(lowest[axis])), max(slice.plane.shape[axis], math.ceil(highest[axis]) + 1)]
    if math.prod((window[1] - window[0], window[3] - window[2])) > MAX_BOX_VOXELS:
        raise ValueError(f"the predicted mesh spans more than {MAX_BOX_VOXELS} pixels of the slice")
    check_crossings(pixels, mesh)
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
    boxes = [VoxelBox.of_grid(np.asarray(mask, dtype=bool), affine) for mask in (prediction, truth)]
    overlap = Overlap(boxes[0].shared_with(boxes[1]), *(int(np.count_nonzero(box.mask)) for box in boxes))
    sides = _both_ways(*(surface_elements(box.mask, box.affine) for box in boxes))
    none = np.zeros(0)
    return Comparison(overlap, abs(np.linalg.det(affine[:3, :3])) / 1000, *sides, none, none, None)


def compare(mesh: Mesh, truth: Truth, slice: SliceInput | None = None) -> Comparison:
    """Compare a predicted mesh (patient mm) with the truth, as it lies: nothing is aligned, scaled or repaired.

    Beside that, in `Comparison.shape`, without its place and its size; see shape_only.py.

    Args:
        mesh: the prediction; may leave the scan.
        truth: the organ.
        slice: what the prediction was made from, for slice_dice; without it that metric is NaN.

    Raises:
        TypeError, ValueError: the prediction is not a closed solid (see `check_prediction`), or it holds no
            voxel.
    """
    mesh = check_prediction(mesh)
    predicted = rasterise_beside(mesh, truth)
    voxels = int(np.count_nonzero(predicted.mask))
    if voxels == 0:
        raise ValueError(f"the predicted mesh ({mesh.volume:.3g} mm3) holds no voxel of the truth's grid")
    volume = Overlap(predicted.shared_with(truth.box), voxels, truth.voxels)
    points_mm = sample_surface(mesh, CHAMFER_POINTS, np.random.default_rng(_PREDICTION_SEED))[0]
    points = point_tree(points_mm)
    to_truth_mm = tree_distances_mm(points, truth.point_tree)
    return Comparison(
        volume,
        truth.label.voxel_volume_mm3 / 1000,
        *_both_ways(surface_elements(predicted.mask, predicted.affine), truth.elements),
        to_truth_mm,
        tree_distances_mm(truth.point_tree, points),
        cut_overlap(mesh, slice) if slice is not None else None,
        partial(_shape, mesh, truth),
        _note(mesh, predicted, volume, float(to_truth_mm.min())),
    )


def _shape(mesh: Mesh, truth: Truth) -> Comparison:
    """The comparison without place and size; one that scores the worst where the scaled mesh cannot be filled."""
    nothing = np.zeros(0)
    voxel_ml = truth.label.voxel_volume_mm3 / 1000
    try:
        aligned = rasterise_beside(without_place_and_size(mesh, truth.mesh), truth)
    except ValueError:
        # A needle as voluminous as the organ is longer than any scan: the prediction is scored, its shape is not.
        aligned = VoxelBox(np.zeros((1, 1, 1), dtype=bool), np.zeros(3, dtype=np.int64), truth.label.affine)
    voxels = int(np.count_nonzero(aligned.mask))
    if voxels:
        sides = _both_ways(surface_elements(aligned.mask, aligned.affine), truth.elements)
    else:
        worst = SurfaceDistances(np.array([truth.diagonal_mm]), np.ones(1))
        sides = worst, worst
    overlap = Overlap(aligned.shared_with(truth.box), voxels, truth.voxels)
    return Comparison(overlap, voxel_ml, *sides, nothing, nothing, None)


def _note(mesh: Mesh, predicted: VoxelBox, volume: Overlap, nearest_mm: float) -> str:
    """What a reader of the scores should know about a prediction that is scored nevertheless; often nothing."""
    notes = [predicted.note] if predicted.note else []
    if not volume.shared:
        notes.append(f"the predicted mesh shares no voxel with the organ, which is {nearest_mm:.4g} mm away")
    if len(mesh.faces) >= _MANY_FACES:
        notes.append(f"the predicted mesh has {len(mesh.faces):,} faces")
    return "; ".join(notes)
