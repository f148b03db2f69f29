"""ICP: the rigid motion that brings one point cloud nearest to another (point to point).

Besl and McKay, "A method for registration of 3-D shapes", IEEE TPAMI 14(2), 1992; each step's motion is the least
squares one of Kabsch (Acta Cryst. A32, 1976). It stops as Open3D's `registration_icp` does by default.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from sam3d_objects.arrays import FloatArray

STEPS = 30
_STILL = 1e-6  # fitness and inlier error that change by less have come to rest
_FEWEST_PAIRS = 3  # fewer do not fix a rotation


@dataclass(frozen=True, eq=False)
class RigidMotion:
    """x -> rotation @ x + shift; rotation (3, 3) float64 of determinant +1, shift (3,) float64."""

    rotation: FloatArray
    shift: FloatArray

    def __call__(self, points: FloatArray) -> FloatArray:
        """Move points (N, 3)."""
        return points @ self.rotation.T + self.shift

    def after(self, first: RigidMotion) -> RigidMotion:
        """The motion that does `first`, then this one."""
        return RigidMotion(self.rotation @ first.rotation, self.rotation @ first.shift + self.shift)


def best_motion(source: FloatArray, target: FloatArray) -> RigidMotion:
    """The rigid motion with the least sum of squares between pairs source[n] -> target[n], both (N, 3); no reflection.

    Points that do not fix a rotation (all on a line, or one) give one of the best.
    """
    source_center, target_center = source.mean(axis=0), target.mean(axis=0)
    left, _, right = np.linalg.svd((source - source_center).T @ (target - target_center))
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(left @ right))])
    rotation = (left * signs @ right).T
    return RigidMotion(rotation, target_center - rotation @ source_center)


def icp(source: FloatArray, target: FloatArray, threshold: float) -> RigidMotion:
    """Move a cloud onto another, from where it is, without scaling.

    Args:
        source: (N, 3), N > 0.
        target: (M, 3), M > 0.
        threshold: source points further than this from every target point are left out of a step.

    Returns:
        the motion of `source`; the identity where fewer than three points are within the threshold.
    """
    tree = cKDTree(target)
    motion = RigidMotion(np.eye(3), np.zeros(3))
    before = (np.inf, np.inf)
    for _ in range(STEPS):
        moved = motion(source)
        distance, nearest = tree.query(moved, distance_upper_bound=threshold)
        paired = np.isfinite(distance)
        if np.count_nonzero(paired) < _FEWEST_PAIRS:
            break
        now = (float(paired.mean()), float(np.sqrt(np.square(distance[paired]).mean())))
        if max(abs(a - b) for a, b in zip(now, before, strict=True)) < _STILL:
            break
        before = now
        motion = best_motion(moved[paired], target[nearest[paired]]).after(motion)
    return motion
