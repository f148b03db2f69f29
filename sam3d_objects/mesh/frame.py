"""Frames: the one place that turns and scales between patient, object and slice camera.

patient: NIfTI world, RAS+, mm. object: origin at the centre of the organ's axis-aligned box, longest side
1, axes LPS (+z superior, -y anterior). camera: +x image left, +y image up, +z away from the viewer
(PyTorch3D), mm. All transforms are float64 and act on points of shape (..., 3).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sam3d_objects.arrays import BoolArray, FloatArray
from sam3d_objects.volume import SlicePlane

RAS_TO_LPS: FloatArray = np.diag([-1.0, -1.0, 1.0])


@dataclass(frozen=True, eq=False)
class ObjectFrame:
    """Where the object's unit box lies in the patient.

    Args:
        center_mm: (3,) float64, centre of the organ's axis-aligned box, patient mm.
        size_mm: longest side of that box, mm, above 0.

    Raises:
        ValueError: on a non-finite centre or a size that is not above 0.
    """

    center_mm: FloatArray
    size_mm: float

    def __post_init__(self) -> None:
        center = np.asarray(self.center_mm, dtype=np.float64)
        if center.shape != (3,) or not np.isfinite(center).all():
            raise ValueError(f"object frame: expected a finite centre of shape (3,), got {center.tolist()}")
        if not (np.isfinite(self.size_mm) and self.size_mm > 0):
            raise ValueError(f"object frame: expected a finite size above 0 mm, got {self.size_mm}")
        object.__setattr__(self, "center_mm", center)
        object.__setattr__(self, "size_mm", float(self.size_mm))

    @classmethod
    def from_points(cls, vertices_mm: npt.ArrayLike) -> ObjectFrame:
        """The frame of the axis-aligned box of points (N, 3), patient mm.

        Raises:
            ValueError: without points, or when they all coincide.
        """
        points = np.asarray(vertices_mm, dtype=np.float64)
        if points.ndim != 2 or points.shape[1] != 3 or len(points) == 0:
            raise ValueError(f"object frame: expected points of shape (N, 3) with N > 0, got {points.shape}")
        low, high = points.min(axis=0), points.max(axis=0)
        return cls((low + high) / 2, float((high - low).max()))

    def to_object(self, points_mm: npt.ArrayLike) -> FloatArray:
        """Patient mm (..., 3) -> object coordinates (..., 3)."""
        return (np.asarray(points_mm, dtype=np.float64) - self.center_mm) @ RAS_TO_LPS / self.size_mm

    def to_patient(self, points_object: npt.ArrayLike) -> FloatArray:
        """Object coordinates (..., 3) -> patient mm (..., 3)."""
        return np.asarray(points_object, dtype=np.float64) * self.size_mm @ RAS_TO_LPS + self.center_mm

    def object_affine(self) -> FloatArray:
        """(4, 4) float64: object coordinates -> patient mm; no reflection: LPS is half a turn of RAS."""
        affine = np.eye(4)
        affine[:3, :3] = RAS_TO_LPS * self.size_mm
        affine[:3, 3] = self.center_mm
        return affine


@dataclass(frozen=True, eq=False)
class SliceCamera:
    """The camera that looks at a slice: its axes and origin in the patient.

    Args:
        camera_axes: (3, 3) float64, rows = camera x, y, z as unit vectors in RAS; orthonormal, determinant
            +1.
        origin_mm: (3,) float64, patient mm of the camera's origin.

    Raises:
        ValueError: when the axes are not a rotation (to 1e-6) or a number is not finite.
    """

    camera_axes: FloatArray
    origin_mm: FloatArray

    def __post_init__(self) -> None:
        axes = np.asarray(self.camera_axes, dtype=np.float64)
        origin = np.asarray(self.origin_mm, dtype=np.float64)
        rotation = axes.shape == (3, 3) and np.allclose(axes @ axes.T, np.eye(3), atol=1e-6)
        if not rotation or np.linalg.det(axes) < 0:
            raise ValueError(f"slice camera: expected the rows of a rotation matrix, got {axes.tolist()}")
        if origin.shape != (3,) or not np.isfinite(origin).all():
            raise ValueError(f"slice camera: expected a finite origin of shape (3,), got {origin.tolist()}")
        object.__setattr__(self, "camera_axes", axes)
        object.__setattr__(self, "origin_mm", origin)

    @classmethod
    def from_plane(cls, plane: SlicePlane) -> SliceCamera:
        """The camera of a slice plane; its origin is the patient position of the middle of the pixel grid."""
        middle = (np.asarray(plane.shape, dtype=np.float64)[None] - 1) / 2
        return cls(plane.camera_axes, plane.pixel_to_mm(middle)[0])

    def to_camera(self, points_mm: npt.ArrayLike) -> FloatArray:
        """Patient mm (..., 3) -> camera mm (..., 3)."""
        return (np.asarray(points_mm, dtype=np.float64) - self.origin_mm) @ self.camera_axes.T

    def to_patient(self, points_camera_mm: npt.ArrayLike) -> FloatArray:
        """Camera mm (..., 3) -> patient mm (..., 3)."""
        return np.asarray(points_camera_mm, dtype=np.float64) @ self.camera_axes + self.origin_mm

    def object_rotation(self) -> FloatArray:
        """(3, 3) float64 R with column vectors: direction_camera = R @ direction_object.

        The release multiplies row vectors, x_camera = x_object @ R.T, and its 6D are the first two COLUMNS
        of that R.T, so the first two ROWS of this R.
        """
        return self.camera_axes @ RAS_TO_LPS


def pointmap(
    plane: SlicePlane, camera: SliceCamera, valid: BoolArray | None = None
) -> npt.NDArray[np.float32]:
    """(rows, cols, 3) float32: each pixel's position in the camera, mm; NaN where not `valid` (rows, cols).

    Raises:
        ValueError: when `valid` has another shape than the plane.
    """
    points = camera.to_camera(plane.grid_mm()).astype(np.float32)
    if valid is not None:
        if valid.shape != tuple(plane.shape):
            raise ValueError(f"pointmap: expected valid of shape {tuple(plane.shape)}, got {valid.shape}")
        points[~valid] = np.nan
    return points
