"""Solids whose volumes, overlaps and distances are known by formula, and cases made of them."""

import numpy as np

from sam3d_objects.arrays import BoolArray, FloatArray
from sam3d_objects.evaluation import Case, Material, Predictor, Truth
from sam3d_objects.evaluation.predictor import Stated
from sam3d_objects.mesh import Mesh, surface_from_field
from sam3d_objects.volume import SliceInput, Volume, cut_to_mask, slice_input


def grid(size: int, spacing_mm: float | tuple[float, float, float] = 1.0) -> FloatArray:
    """(4, 4) affine of a cubic grid whose middle voxel centre is the patient's origin."""
    spacing = np.broadcast_to(np.asarray(spacing_mm, dtype=np.float64), (3,))
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -spacing * ((size - 1) / 2)
    return affine


def positions(size: int, affine: FloatArray) -> FloatArray:
    """(size, size, size, 3) patient mm of the voxel centres."""
    index = np.moveaxis(np.indices((size,) * 3), 0, -1)
    return index @ affine[:3, :3].T + affine[:3, 3]


def ball_mask(
    radius_mm: float, size: int, affine: FloatArray, center_mm: tuple[float, float, float] = (0, 0, 0)
) -> BoolArray:
    """The voxels whose centres lie in a ball."""
    return np.asarray(np.linalg.norm(positions(size, affine) - center_mm, axis=-1) <= radius_mm)


def ball_mesh(radius_mm: float, center_mm: tuple[float, float, float] = (0, 0, 0), points: int = 48) -> Mesh:
    """A ball's surface, from the exact distance field: vertices within a thousandth of the radius of the sphere."""
    reach = 1.15 * radius_mm
    step = 2 * reach / (points - 1)
    affine = np.diag([step, step, step, 1.0])
    affine[:3, 3] = np.asarray(center_mm) - reach
    field = radius_mm - np.linalg.norm(positions(points, affine) - center_mm, axis=-1)
    return surface_from_field(field, 0.0, affine)


def box_mesh(low_mm: tuple[float, float, float], high_mm: tuple[float, float, float]) -> Mesh:
    """An axis-aligned box, 12 triangles."""
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], dtype=np.float64)
    vertices = np.asarray(low_mm) + corners * (np.asarray(high_mm) - np.asarray(low_mm))
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = np.array([face for a, b, c, d in quads for face in ((a, b, c), (a, c, d))])
    mesh = Mesh(vertices, faces)
    return mesh if mesh.volume > 0 else mesh.flipped()


def ball_truth(radius_mm: float = 10.0, size: int = 32, spacing_mm: float = 1.0) -> Truth:
    """A ball at the origin, in a grid of its own."""
    affine = grid(size, spacing_mm)
    label = Volume(ball_mask(radius_mm, size, affine), affine)
    return Truth(label, ball_mesh(radius_mm), label.diagonal_mm)


def middle_slice(truth: Truth, plane: str = "axial", index: int | None = None) -> SliceInput:
    """A slice of a truth (the middle one), on a scan of noise, cut to the margin of 3 mm."""
    shape = truth.label.shape
    noise = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    scan = Volume(noise, truth.label.affine)
    return cut_to_mask(slice_input(scan, truth.label, plane, shape[0] // 2 if index is None else index), 3.0)


def ball_case(name: str, radius_mm: float = 10.0, plane: str = "axial", kind: str = "largest") -> Case:
    """A case whose organ is a ball; its patient has the same name."""

    def load() -> Material:
        truth = ball_truth(radius_mm)
        scan = Volume(np.zeros(truth.label.shape, dtype=np.float32), truth.label.affine)
        return Material(middle_slice(truth, plane), truth, scan)

    return Case(name, name, "ball", plane, kind, 16, load)


def killed_after(count: int, predictor: Predictor) -> Predictor:
    """A predictor that answers `count` times, and is then interrupted."""
    calls: list[int] = []

    def predict(slice: SliceInput, seed: int) -> Mesh | Stated:
        calls.append(seed)
        if len(calls) > count:
            raise KeyboardInterrupt
        return predictor(slice, seed)

    return predict
