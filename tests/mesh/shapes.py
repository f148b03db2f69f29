"""Meshes and affines that the tests of this folder share."""

import numpy as np
from scipy.spatial.transform import Rotation

from sam3d_objects.arrays import BoolArray, FloatArray
from sam3d_objects.mesh import Mesh, surface_from_field

# Corner c of a cube is at the bits of c: x = c & 1, y = c >> 1 & 1, z = c >> 2.
_CUBE_FACES = [
    *([0, 2, 3], [0, 3, 1], [4, 5, 7], [4, 7, 6], [0, 1, 5], [0, 5, 4]),
    *([2, 6, 7], [2, 7, 3], [0, 4, 6], [0, 6, 2], [1, 3, 7], [1, 7, 5]),
]


def box(low: tuple[float, float, float], high: tuple[float, float, float]) -> Mesh:
    """A closed box of 12 triangles with outward winding."""
    corners = np.array([[c & 1, c >> 1 & 1, c >> 2] for c in range(8)], dtype=np.float64)
    return Mesh(np.array(low) + corners * (np.array(high) - np.array(low)), np.array(_CUBE_FACES))


def joined(*meshes: Mesh) -> Mesh:
    """Several meshes as one, without merging anything."""
    offsets = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes])
    faces = [mesh.faces + offset for mesh, offset in zip(meshes, offsets, strict=False)]
    return Mesh(np.concatenate([mesh.vertices for mesh in meshes]), np.concatenate(faces))


def sphere(radius: float, step: float = 0.1) -> Mesh:
    """A sphere about the origin, from its exact distance on a grid of the given step."""
    half = int(np.ceil(radius / step)) + 2
    grid = np.indices((2 * half + 1,) * 3) * step - half * step
    affine = np.diag([step, step, step, 1.0])
    affine[:3, 3] = -half * step
    return surface_from_field(radius - np.linalg.norm(grid, axis=0), 0.0, affine)


def rotation(seed: int = 0) -> FloatArray:
    """A proper rotation matrix, oblique in every direction."""
    return Rotation.from_euler("xyz", [0.5 + seed, 0.3, -0.4]).as_matrix()


def scan_affine(kind: str) -> FloatArray:
    """(4, 4) affine of a scan: 'anisotropic', 'oblique', 'left-handed' or 'oblique left-handed'."""
    turn = (
        Rotation.from_euler("xyz", [11, -8, 14], degrees=True).as_matrix() if "oblique" in kind else np.eye(3)
    )
    sides = np.array([0.7, 0.9, 3.0]) * ([-1, 1, 1] if "left" in kind else [1, 1, 1])
    affine = np.eye(4)
    affine[:3, :3] = turn * sides
    affine[:3, 3] = 31.0, -57.3, 12.9
    return affine


SCANS = ("anisotropic", "oblique", "left-handed", "oblique left-handed")


def ellipsoid(
    shape: tuple[int, int, int], affine: FloatArray, radii_mm: FloatArray, turn: FloatArray
) -> tuple[BoolArray, FloatArray]:
    """Mask (I, J, K) of an analytic ellipsoid in the middle of a grid, and its centre (3,) in mm."""
    center = affine[:3, :3] @ ((np.array(shape) - 1) / 2 + 0.17) + affine[:3, 3]
    points = np.moveaxis(np.indices(shape), 0, -1) @ affine[:3, :3].T + affine[:3, 3]
    return (((points - center) @ turn / radii_mm) ** 2).sum(axis=-1) < 1, center
