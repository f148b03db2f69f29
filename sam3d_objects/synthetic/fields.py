"""What implicit solids are made of: the type of a field, random rotations and scales, many ellipsoids."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from sam3d_objects.arrays import FloatArray

Float32 = npt.NDArray[np.float32]
# Points (3, N) float32 -> (N,) float32: positive inside, falling off roughly like a distance.
Field = Callable[[Float32], Float32]


def random_rotation(generator: np.random.Generator) -> FloatArray:
    """Uniformly random rotation matrix (3, 3), from a normalised Gaussian quaternion (Shoemake 1992)."""
    w, x, y, z = (q := generator.normal(size=4)) / np.linalg.norm(q)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def log_uniform(generator: np.random.Generator, low: float, high: float) -> float:
    """A draw whose logarithm is uniform between those of `low` and `high`, both positive."""
    return float(np.exp(generator.uniform(np.log(low), np.log(high))))


def ellipsoid_radii(points: Float32, centers: FloatArray, whitening: FloatArray) -> Float32:
    """Squared ellipsoidal radius |W_k (p_n - c_k)|^2, (K, N) float32, of points (3, N) for K ellipsoids.

    `centers` is (K, 3) and `whitening` (K, 3, 3) maps each ellipsoid onto the unit ball. The quadratic forms
    are expanded into ten monomials, so that all of them cost one matrix product.
    """
    metric = np.einsum("kij,kil->kjl", whitening, whitening)
    pull = np.einsum("kij,kj->ki", metric, centers)
    rest = np.einsum("ki,ki->k", pull, centers)
    x, y, z = points
    monomials = np.stack([x * x, y * y, z * z, x * y, x * z, y * z, x, y, z, np.ones_like(x)])
    upper = 2 * metric[:, [0, 0, 1], [1, 2, 2]]
    diagonal = np.diagonal(metric, axis1=1, axis2=2)
    weights = np.concatenate([diagonal, upper, -2 * pull, rest[:, None]], axis=1).astype(np.float32)
    squared = weights @ monomials
    return np.maximum(squared, np.float32(0), out=squared)


def smooth_max(a: Float32, b: Float32, softness: np.float32) -> Float32:
    """Smooth maximum of (N,) values, rounded where |a - b| < `softness` (Quilez' quadratic one)."""
    overlap = np.maximum(softness - np.abs(a - b), np.float32(0)) / softness
    return np.maximum(a, b) + overlap * overlap * (softness / 4)
