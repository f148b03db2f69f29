"""Three invented phantom organs: fixed asymmetric templates in millimetres, varied smoothly between patients.

They are no organs and were measured on none; their names say so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sam3d_objects.arrays import FloatArray
from sam3d_objects.synthetic.fields import Field, Float32, ellipsoid_radii, smooth_max

_TAIL_SAMPLES = 28


@dataclass(frozen=True)
class PhantomOrgan:
    """A phantom organ's name, its template, where it usually lies (RAS mm) and how bright it is (HU)."""

    name: str
    template: Callable[[np.random.Generator], Field]
    center_mm: tuple[float, float, float]
    intensity_hu: float


def organ_field(organ: PhantomOrgan, generator: np.random.Generator) -> tuple[Field, FloatArray]:
    """One patient's version of `organ` and its centre (3,) in mm.

    The field maps points (3, N) float32, RAS mm of the patient, to about the depth below the surface in mm.
    Size (sd 9 %), proportions (6 %), pose (6 degrees, 2.5 mm an axis) and a smooth warp differ by patient.
    """
    template = organ.template(generator)
    center = np.array(organ.center_mm) + np.clip(generator.normal(0, 2.5, 3), -5, 5)
    log_scale = np.clip(generator.normal(0, 0.09), -0.18, 0.18) + np.clip(
        generator.normal(0, 0.06, 3), -0.12, 0.12
    )
    turn = _small_rotation(np.clip(generator.normal(0, np.radians(6), 3), -0.2, 0.2))
    to_template = (np.diag(np.exp(-log_scale)) @ turn.T).astype(np.float32)
    warp = _smooth_warp(generator)
    shrink = np.float32(np.exp(log_scale.mean()))

    def field(points: Float32) -> Float32:
        local = to_template @ (points - center[:, None].astype(np.float32))
        return template(local + warp(local)) * shrink

    return field, center


def _small_rotation(angles: FloatArray) -> FloatArray:
    """Rotation matrix (3, 3) by `angles` (3,) in radians about x, then y, then z."""
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        first, second = (axis + 1) % 3, (axis + 2) % 3
        step = np.eye(3)
        step[first, first] = step[second, second] = np.cos(angle)
        step[second, first], step[first, second] = np.sin(angle), -np.sin(angle)
        matrix = step @ matrix
    return matrix


def _smooth_warp(generator: np.random.Generator) -> Callable[[Float32], Float32]:
    """Displacement (3, N) mm of points (3, N) mm: six plane waves of 55 to 130 mm, about 1.2 mm an axis."""
    count = 6
    directions = generator.normal(size=(count, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    waves = (directions * 2 * np.pi / generator.uniform(55, 130, size=(count, 1))).astype(np.float32)
    phases = generator.uniform(0, 2 * np.pi, size=(count, 1)).astype(np.float32)
    gains = np.clip(generator.normal(0, 0.7, size=(3, count)), -1.4, 1.4).astype(np.float32)
    return lambda points: gains @ np.sin(waves @ points + phases)


def _ellipsoids(centers_mm: npt.ArrayLike, axes_mm: npt.ArrayLike) -> Callable[[Float32], Float32]:
    """Depths (K, N) in mm, roughly, below the surfaces of K axis-aligned ellipsoids."""
    centers, axes = np.asarray(centers_mm, dtype=np.float64), np.asarray(axes_mm, dtype=np.float64)
    whitening = np.stack([np.diag(1 / a) for a in axes])
    thickness = axes.min(axis=1, keepdims=True).astype(np.float32)
    return lambda points: (1 - np.sqrt(ellipsoid_radii(points, centers, whitening))) * thickness


def _bean(generator: np.random.Generator) -> Field:
    """A bent, tapered ellipsoid with a dent in its hollow side."""
    bend = np.float32(0.011 * np.exp(generator.normal(0, 0.2)))
    taper = np.float32(0.007 + generator.normal(0, 0.002))
    dent_mm = generator.normal(2, 2)
    body = _ellipsoids([[0, 0, 0]], [[13, 16, 27]])
    dent = _ellipsoids([[19, 0, dent_mm]], [[11, 9, 8]])

    def field(points: Float32) -> Float32:
        x, y, z = points
        widen = 1 / (1 + taper * np.clip(z, -45, 45))
        bent = np.stack([(x - bend * z * z + 2) * widen, y * widen, z])
        return -smooth_max(-body(bent)[0], dent(points)[0], np.float32(4))

    return field


def _comma(generator: np.random.Generator) -> Field:
    """A bulky head and a long tail that curls in one plane and dips in another."""
    t = np.linspace(0, 1, _TAIL_SAMPLES)
    yaw = (2.1 + generator.normal(0, 0.2)) * t**1.2 + 0.3
    pitch = 0.5 + (0.5 + generator.normal(0, 0.12)) * np.sin(2.6 * t)
    steps = np.stack([np.cos(pitch) * np.cos(yaw), np.cos(pitch) * np.sin(yaw), np.sin(pitch)], axis=1)
    centers = np.cumsum(steps, axis=0) * (62 + generator.normal(0, 3)) / _TAIL_SAMPLES
    centers -= (centers.max(axis=0) + centers.min(axis=0)) / 2
    head = 8.0 * np.exp(generator.normal(0, 0.1))
    radius = 4.0 + head * np.exp(-(((t - 0.16) / 0.3) ** 2))
    depths = _ellipsoids(centers, np.stack([radius, radius, 1.25 * radius], axis=1))
    return lambda points: depths(points).max(axis=0)


def _lobe(generator: np.random.Generator) -> Field:
    """A wedge of a thick lobe, a flat long one and a small one, hollowed from below."""
    reach = 24 + generator.normal(0, 2)
    axes_mm: list[list[float]] = [[25, 20, 20], [reach, 13, 11], [10, 9, 10]]
    parts = _ellipsoids([[17, 0, -1], [-22, 6, 4], [2, -13, -3]], axes_mm)
    normal = np.array([[0.35, -0.25, -0.9]], dtype=np.float32)
    floor_mm = np.float32(10 + generator.normal(0, 1))

    def field(points: Float32) -> Float32:
        thick, flat, small = parts(points)
        union = smooth_max(smooth_max(thick, flat, np.float32(7)), small, np.float32(4))
        return -smooth_max(-union, (normal @ points)[0] - floor_mm, np.float32(6))

    return field


PHANTOM_ORGANS = (
    PhantomOrgan("phantom_bean", _bean, (-38.0, -6.0, -20.0), 120.0),
    PhantomOrgan("phantom_comma", _comma, (36.0, 2.0, -18.0), 75.0),
    PhantomOrgan("phantom_lobe", _lobe, (4.0, 8.0, 40.0), 100.0),
)
