"""Slice planes: pixel grids in the patient, displayed as radiologists see them, and cutting along them.

Display (the slice camera: +x image left, +y image up, +z away from the viewer): axial (x, y, z) = (R, A,
S), coronal (R, S, P), sagittal (A, S, R); all right-handed. So the columns of an axial image run R -> L
and its rows A -> P.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sam3d_objects.arrays import AnyArray, BoolArray, FloatArray, IntArray
from sam3d_objects.files import nearest
from sam3d_objects.volume.interpolate import check_order, inside_grid, interpolate, value_dtype
from sam3d_objects.volume.orientation import nearest_axes, shear_degrees
from sam3d_objects.volume.volume import Volume, apply_affine, checked_affine

PLANES = ("axial", "coronal", "sagittal")
MAX_SHEAR_DEGREES = 0.5

# For each plane the patient axes (R, A, S = 0, 1, 2) of image left, of image up, and across the plane.
DISPLAY = {"axial": (0, 1, 2), "coronal": (0, 2, 1), "sagittal": (1, 2, 0)}
_LATTICE_TOLERANCE_VOX = 1e-4


@dataclass(frozen=True, eq=False)
class SlicePlane:
    """A grid of pixels in the patient.

    Attributes:
        name: 'axial', 'coronal', 'sagittal' or another name for an oblique plane.
        affine: (4, 4) float64, (row, col, 0, 1) -> RAS mm at pixel centres. The third column is set on
            creation to the unit vector of camera +z (away from the viewer); what came there is not used.
        shape: (rows, cols).
        slice_index: native voxel index along the through-plane axis, None for an oblique plane.

    Raises:
        ValueError: an empty shape, or pixel directions that are not finite, zero or parallel.
    """

    name: str
    affine: FloatArray
    shape: tuple[int, int]
    slice_index: int | None = None

    def __post_init__(self) -> None:
        rows, cols = (int(n) for n in self.shape)
        if rows < 1 or cols < 1:
            raise ValueError(
                f"{self.name} plane: expected at least one row and column, got shape {self.shape}"
            )
        affine = np.array(self.affine, dtype=np.float64)
        if affine.shape != (4, 4):
            raise ValueError(f"{self.name} plane: expected a 4x4 affine, got shape {affine.shape}")
        if not np.isfinite(affine[:, [0, 1, 3]]).all():
            raise ValueError(f"{self.name} plane: expected a finite affine, got {affine.tolist()}")
        # x = -col and y = -row, so x cross y = col cross row.
        away = np.cross(affine[:3, 1], affine[:3, 0])
        sides_mm = np.linalg.norm(affine[:3, :2], axis=0)
        if np.linalg.norm(away) <= 1e-6 * sides_mm.prod():
            raise ValueError(
                f"{self.name} plane: expected two independent pixel directions of non-zero spacing, "
                f"got rows {affine[:3, 0].tolist()} and columns {affine[:3, 1].tolist()}"
            )
        affine[:, 2] = [*(away / np.linalg.norm(away)), 0.0]
        object.__setattr__(self, "shape", (rows, cols))
        object.__setattr__(self, "affine", checked_affine(affine))

    @property
    def camera_axes(self) -> FloatArray:
        """(3, 3) float64: rows are camera x (image left), y (image up), z (away) in RAS; a rotation.

        Pixel directions that are not quite orthogonal are turned by equal angles until they are.
        """
        left, up = -self.affine[:3, 1], -self.affine[:3, 0]
        left, up = left / np.linalg.norm(left), up / np.linalg.norm(up)
        # The bisectors of two unit vectors are exactly orthogonal.
        between, across = left + up, left - up
        between, across = between / np.linalg.norm(between), across / np.linalg.norm(across)
        left, up = (between + across) / np.sqrt(2.0), (between - across) / np.sqrt(2.0)
        return np.stack([left, up, np.cross(left, up)])

    @property
    def pixel_spacing_mm(self) -> tuple[float, float]:
        """Distance in mm between neighbouring rows, and between neighbouring columns."""
        row_mm, col_mm = np.linalg.norm(self.affine[:3, :2], axis=0)
        return float(row_mm), float(col_mm)

    @property
    def image_frame(self) -> FloatArray:
        """(4, 4) float64 rigid map, RAS mm -> image-frame mm.

        Image frame: x right along a row, y down, z away from the viewer (right-handed); its origin is the
        centre of pixel (0, 0).
        """
        frame = np.eye(4)
        frame[:3, :3] = self.camera_axes * np.array([[-1.0], [-1.0], [1.0]])
        frame[:3, 3] = -frame[:3, :3] @ self.affine[:3, 3]
        return frame

    def pixel_to_mm(self, row_col: npt.ArrayLike) -> FloatArray:
        """Map pixels (N, 2) (row, col), fractions allowed, to RAS mm (N, 3) float64."""
        pixels = np.asarray(row_col, dtype=np.float64)
        mapped: FloatArray = pixels @ self.affine[:3, :2].T + self.affine[:3, 3]
        return mapped

    def mm_to_pixel(self, points: npt.ArrayLike) -> FloatArray:
        """Map RAS mm (N, 3) to (N, 3) float64: fractional row and col, and mm along camera +z."""
        return apply_affine(np.linalg.inv(self.affine), points)

    def grid_mm(self) -> FloatArray:
        """Return the RAS position in mm of every pixel's centre, (rows, cols, 3) float64."""
        return self.pixel_to_mm(np.moveaxis(np.indices(self.shape), 0, -1))

    def window(self, row_start: int, row_stop: int, col_start: int, col_stop: int) -> "SlicePlane":
        """Return the plane of rows [row_start, row_stop) and columns [col_start, col_stop).

        Indices may leave the slice (negative, or beyond its end). An empty window is a ValueError.
        """
        affine = self.affine.copy()
        affine[:3, 3] = self.pixel_to_mm([row_start, col_start])
        return SlicePlane(self.name, affine, (row_stop - row_start, col_stop - col_start), self.slice_index)


def through_plane_axis(affine: FloatArray, name: str) -> int:
    """Return the voxel axis nearest to the normal of plane `name`; each axis belongs to exactly one plane."""
    axes, _ = nearest_axes(affine)
    return axes[_display(name)[2]]


def voxel_plane(volume: Volume, name: str, slice_index: int) -> SlicePlane:
    """Return the voxel plane nearest to axial, coronal or sagittal, in radiological display.

    Args:
        volume: the grid; its axes are flipped and transposed for display, never interpolated.
        name: one of `PLANES`.
        slice_index: native voxel index along `through_plane_axis(volume.affine, name)`.

    Raises:
        ValueError: an unknown plane, an index outside the scan, or a grid that is sheared by more than
            half a degree.
    """
    left, up, _ = _display(name)
    shear = shear_degrees(volume.affine)
    if shear > MAX_SHEAR_DEGREES:
        raise ValueError(
            f"expected voxel axes within {MAX_SHEAR_DEGREES} degrees of orthogonal, got {shear:.2f}; "
            "resample the volume first"
        )
    axes, signs = nearest_axes(volume.affine)
    through = through_plane_axis(volume.affine, name)
    if not 0 <= slice_index < volume.shape[through]:
        raise ValueError(
            f"expected a {name} slice index from 0 to {volume.shape[through] - 1} "
            f"(native voxel axis {through}), got {slice_index}"
        )
    first = np.zeros(3)
    first[through] = slice_index
    affine = np.eye(4)
    # Rows run against image up and columns against image left: an axis that grows that way starts at its end.
    for column, world in ((0, up), (1, left)):
        axis, sign = axes[world], signs[world]
        affine[:3, column] = -sign * volume.affine[:3, axis]
        first[axis] = volume.shape[axis] - 1 if sign > 0 else 0
    affine[:3, 3] = apply_affine(volume.affine, first)
    shape = (volume.shape[axes[up]], volume.shape[axes[left]])
    return SlicePlane(name, affine, shape, int(slice_index))


def oblique_plane(
    center_mm: npt.ArrayLike,
    camera_axes: npt.ArrayLike,
    shape: tuple[int, int],
    pixel_mm: float | tuple[float, float],
    name: str = "oblique",
) -> SlicePlane:
    """Return a plane in any direction.

    Args:
        center_mm: (3,) RAS position of the middle of the pixel grid.
        camera_axes: (3, 3), rows image left, image up, away from the viewer, in RAS; a rotation.
        shape: (rows, cols).
        pixel_mm: side of a pixel, or (row, col) spacing.
        name: what to call it.

    Raises:
        ValueError: `camera_axes` is not a rotation, or a spacing is not above zero.
    """
    axes = np.asarray(camera_axes, dtype=np.float64)
    is_rotation = axes.shape == (3, 3) and np.allclose(axes @ axes.T, np.eye(3), atol=1e-6)
    if not is_rotation or np.linalg.det(axes) < 0:
        raise ValueError(
            f"expected camera_axes to be a rotation (orthonormal rows, det +1), got {axes.tolist()}"
        )
    row_mm, col_mm = np.broadcast_to(np.asarray(pixel_mm, dtype=np.float64), (2,))
    if not (row_mm > 0 and col_mm > 0):
        raise ValueError(f"expected pixel_mm above zero, got {pixel_mm}")
    affine = np.eye(4)
    affine[:3, 0] = -axes[1] * row_mm
    affine[:3, 1] = -axes[0] * col_mm
    middle = (np.array(shape) - 1) / 2
    affine[:3, 3] = np.asarray(center_mm, dtype=np.float64) - affine[:3, :2] @ middle
    return SlicePlane(name, affine, shape)


def cut(volume: Volume, plane: SlicePlane, order: int = 1, cval: float = 0.0) -> AnyArray:
    """Return the volume's values at a plane's pixels.

    On a voxel plane of this volume (any whole-voxel steps) voxels are copied exactly; elsewhere they are
    interpolated.

    Args:
        volume: the scan or a label map.
        plane: any plane in the same patient space.
        order: 0 nearest voxel (labels), 1 trilinear.
        cval: value of pixels outside the scan.

    Returns:
        (rows, cols); the volume's dtype for order 0, at least float32 for order 1.
    """
    check_order(order)
    indices = _lattice_indices(volume, plane)
    if indices is None:
        return interpolate(volume.voxels, volume.mm_to_voxel(plane.grid_mm()), order, cval)
    upper = np.array(volume.shape) - 1
    inside = ((indices >= 0) & (indices <= upper)).all(axis=-1)
    i, j, k = np.moveaxis(np.clip(indices, 0, upper), -1, 0)
    values: AnyArray = volume.voxels[i, j, k].astype(value_dtype(volume.voxels.dtype, order))
    values[~inside] = cval
    return values


def inside_scan(volume: Volume, plane: SlicePlane) -> BoolArray:
    """Tell which pixels of a plane lie in a voxel of the volume, (rows, cols) bool."""
    return inside_grid(volume.mm_to_voxel(plane.grid_mm()), volume.shape)


def _lattice_indices(volume: Volume, plane: SlicePlane) -> IntArray | None:
    """Return each pixel's voxel index, (rows, cols, 3), if all pixel centres are voxel centres, else None."""
    pixel_to_voxel = (np.linalg.inv(volume.affine) @ plane.affine)[:3, [0, 1, 3]]
    lattice = np.rint(pixel_to_voxel)
    # The deviation is affine in (row, col), so it is largest at a corner.
    rows, cols = plane.shape
    corners = np.array([(r, c, 1) for r in (0, rows - 1) for c in (0, cols - 1)])
    if np.abs(corners @ (pixel_to_voxel - lattice).T).max() > _LATTICE_TOLERANCE_VOX:
        return None
    row_step, col_step, origin = lattice.T.astype(np.int64)
    row, col = np.indices(plane.shape)
    indices: IntArray = origin + row[..., None] * row_step + col[..., None] * col_step
    return indices


def _display(name: str) -> tuple[int, int, int]:
    if name not in DISPLAY:
        raise ValueError(f"expected a plane of {', '.join(PLANES)}, got {name!r}.{nearest(name, PLANES)}")
    return DISPLAY[name]
