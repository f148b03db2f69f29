"""Random curved tubes: a bulky head and a thin tail, hooks, spirals, flattened and turning sections."""

from __future__ import annotations

import numpy as np

from sam3d_objects.arrays import FloatArray
from sam3d_objects.synthetic.fields import Field, Float32, ellipsoid_radii, log_uniform

_SPINE_SAMPLES = 30


def _turning(generator: np.random.Generator, s: FloatArray, strength: float) -> FloatArray:
    """Heading angle (K,) in radians along s in [0, 1]: an arc, a wave (S) and a late or early hook, mixed."""
    arc = generator.normal() * 1.3 * s
    wave = generator.normal() * 0.6 * np.sin(2 * np.pi * s + generator.uniform(0, 2 * np.pi))
    knee, sharpness = generator.uniform(0.15, 0.85), generator.uniform(6, 16)
    hook = generator.normal() * 0.9 / (1 + np.exp(-sharpness * (s - knee)))
    return strength * (arc + wave + hook)


def _spine(generator: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Spine points (K, 3), centred, of arc length 2, and frames (K, 3, 3), rows tangent, normal, binormal."""
    s = np.linspace(0, 1, _SPINE_SAMPLES)
    if generator.random() < 0.12:
        turns, sign = generator.uniform(0.7, 1.5), generator.choice([-1.0, 1.0])
        yaw = sign * 2 * np.pi * turns * s ** generator.uniform(0.7, 1.4)
        pitch = generator.uniform(0.2, 0.8) + _turning(generator, s, 0.15)
    else:
        yaw = _turning(generator, s, generator.uniform(0.2, 1.25))
        pitch = _turning(generator, s, generator.uniform(0.0, 0.8))
    zero = np.zeros_like(s)
    tangent = np.stack([np.cos(pitch) * np.cos(yaw), np.cos(pitch) * np.sin(yaw), np.sin(pitch)], axis=1)
    normal = np.stack([-np.sin(yaw), np.cos(yaw), zero], axis=1)
    points = np.cumsum(tangent, axis=0) * (2 / _SPINE_SAMPLES)
    points -= (points.max(axis=0) + points.min(axis=0)) / 2
    return points, np.stack([tangent, normal, np.cross(tangent, normal)], axis=1)


def _radius_profile(generator: np.random.Generator, s: FloatArray) -> FloatArray:
    """Relative radius (K,) along the spine, at most 1: comma, taper, spindle, dumbbell or free bulges."""
    kind = generator.choice(
        ["comma", "taper", "spindle", "dumbbell", "bulges"], p=[0.35, 0.2, 0.15, 0.1, 0.2]
    )
    if kind == "comma":
        tail, center, width = (
            generator.uniform(0.2, 0.6),
            generator.uniform(0.05, 0.35),
            generator.uniform(0.15, 0.5),
        )
        profile = tail + (1 - tail) * np.exp(-(((s - center) / width) ** 2))
    elif kind == "taper":
        profile = 1 - generator.uniform(0.2, 0.85) * s ** generator.uniform(0.6, 2.5)
    elif kind == "spindle":
        center = generator.uniform(0.3, 0.7)
        profile = 1 - generator.uniform(0.3, 0.8) * (np.abs(s - center) / max(center, 1 - center)) ** 2
    elif kind == "dumbbell":
        profile = generator.uniform(0.4, 0.8) + 0.0 * s
        for center in (0.08, 0.92):
            profile += generator.uniform(0.2, 0.7) * np.exp(
                -(((s - center) / generator.uniform(0.1, 0.3)) ** 2)
            )
    else:
        profile = np.ones_like(s)
    for waves in (1, 2, 3):
        amplitude = (0.35 if kind == "bulges" else 0.14) / waves**0.5
        phase = generator.uniform(0, 2 * np.pi)
        profile = profile * np.exp(
            generator.normal() * amplitude * np.sin(2 * np.pi * waves * s / 1.5 + phase)
        )
    return np.maximum(profile / profile.max(), 0.12)


def tube(generator: np.random.Generator) -> Field:
    """A curved tube: dense ellipsoids along a spine bent in two planes, with turning elliptic sections."""
    s = np.linspace(0, 1, _SPINE_SAMPLES)
    centers, frames = _spine(generator)
    # Floors keep the thinnest tail at about two voxels of the final grid.
    radius = np.maximum(log_uniform(generator, 0.22, 0.6) * _radius_profile(generator, s), 0.09)
    phase = generator.uniform(0, 2 * np.pi)
    flatness = generator.uniform(0, 1.2) * (1 + generator.uniform(0, 0.6) * np.sin(2 * np.pi * s + phase))
    roll = generator.uniform(0, np.pi) + generator.normal() * 1.2 * s
    wide, flat = radius * np.exp(flatness / 2), np.maximum(radius * np.exp(-flatness / 2), 0.08)
    cosine, sine = np.cos(roll)[:, None], np.sin(roll)[:, None]
    tangent, normal, binormal = frames[:, 0], frames[:, 1], frames[:, 2]
    # Along the spine each ellipsoid reaches its neighbours' centres at least, so that no beads show.
    along = np.maximum(np.minimum(radius, 0.35), 2.2 * 2 / _SPINE_SAMPLES + 0.2 * wide)
    whitening = np.stack(
        [
            tangent / along[:, None],
            (cosine * normal + sine * binormal) / wide[:, None],
            (cosine * binormal - sine * normal) / flat[:, None],
        ],
        axis=1,
    )
    weight = flat.astype(np.float32)

    def field(points: Float32) -> Float32:
        depth = ellipsoid_radii(points, centers, whitening)
        np.sqrt(depth, out=depth)
        np.subtract(np.float32(1), depth, out=depth)
        depth *= weight[:, None]
        return depth.max(axis=0)

    return field
