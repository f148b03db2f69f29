"""Affines of every kind that scanners write: each test of geometry runs on all of them."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from sam3d_objects.arrays import FloatArray
from sam3d_objects.volume import Volume


def affine_of(directions: FloatArray, spacing_mm: tuple[float, float, float]) -> FloatArray:
    """Directions in columns (3, 3), spacing, and an origin that is no round number."""
    affine = np.eye(4)
    affine[:3, :3] = directions * np.array(spacing_mm)
    affine[:3, 3] = (-177.9563, 11.319, 94.30176)
    return affine


OBLIQUE = Rotation.from_euler("xyz", (12.0, -20.0, 27.0), degrees=True).as_matrix()
MIRROR = np.diag([1.0, 1.0, -1.0])
# Acquired sagittally: first axis runs anterior, second inferior, third left.
SAGITTAL = np.array([[0.0, 0.0, -1.0], [1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
SHEAR = np.array([[1.0, 0.004, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
AFFINES = {
    "identity": np.eye(4),
    "anisotropic": affine_of(np.eye(3), (0.7, 0.8, 5.0)),
    "LPS": affine_of(np.diag([-1.0, -1.0, 1.0]), (0.5, 0.5, 3.0)),
    "left-handed": affine_of(MIRROR, (1.0, 2.0, 3.0)),
    "sagittal": affine_of(SAGITTAL, (0.9, 1.1, 4.0)),
    "sagittal left-handed": affine_of(SAGITTAL @ MIRROR, (0.9, 1.1, 4.0)),
    "oblique": affine_of(OBLIQUE, (0.6, 0.9, 2.5)),
    "oblique sagittal": affine_of(OBLIQUE @ SAGITTAL, (0.6, 0.9, 2.5)),
    "oblique left-handed": affine_of(OBLIQUE @ MIRROR, (0.6, 0.9, 2.5)),
    "slightly sheared": affine_of(OBLIQUE @ SHEAR, (0.6, 0.9, 2.5)),
}


@pytest.fixture(params=list(AFFINES), ids=list(AFFINES))
def affine(request: pytest.FixtureRequest) -> FloatArray:
    return AFFINES[request.param]


@pytest.fixture
def volume(affine: FloatArray) -> Volume:
    """A (5, 6, 7) volume on each of the affines; every voxel has a value of its own."""
    return Volume(np.arange(5 * 6 * 7, dtype=np.int16).reshape(5, 6, 7), affine)
