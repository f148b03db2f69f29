"""Random compact solids: metaballs, radial waves, superquadrics and soft polytopes, and what bends them.

Each lies within about 1.5 of the origin. Nothing here is an organ, nor measured on one.
"""

from __future__ import annotations

import numpy as np

from sam3d_objects.synthetic.fields import Field, Float32, ellipsoid_radii, log_uniform, random_rotation


def metaballs(generator: np.random.Generator) -> Field:
    """Two to six ellipsoidal balls on a random walk, melted into one another by a log-sum-exp."""
    count = int(generator.integers(2, 7))
    steps = generator.normal(size=(count, 3))
    steps *= generator.uniform(0.25, 0.6, size=(count, 1)) / np.linalg.norm(steps, axis=1, keepdims=True)
    drift = generator.uniform(0, 0.35) * random_rotation(generator)[0]
    centers = np.cumsum(steps + drift, axis=0)
    centers -= centers.mean(axis=0)
    radii = np.exp(
        generator.normal(-0.9, 0.3, size=(count, 1, 1)) + generator.normal(0, 0.25, size=(count, 3, 1))
    )
    whitening = np.stack([random_rotation(generator) for _ in range(count)]) / np.clip(radii, 0.16, 0.8)
    sharpness = np.float32(generator.uniform(1.2, 4))

    def field(points: Float32) -> Float32:
        squared = ellipsoid_radii(points, centers, whitening)
        nearest = squared.min(axis=0)
        melted = np.exp(sharpness * (nearest - squared)).sum(axis=0)
        squared_radius = nearest - np.log(melted) / sharpness
        # A square root from the inside out keeps the slope finite at the centre, where the value is negative.
        return np.float32(0.4) * (1 - np.sign(squared_radius) * np.sqrt(np.abs(squared_radius)))

    return field


def radial_waves(generator: np.random.Generator) -> Field:
    """A star-shaped blob: the log of its radius is a sum of slow plane waves over the direction."""
    count = 10
    frequencies = generator.normal(size=(count, 3))
    frequencies *= generator.uniform(0.8, 4.0, size=(count, 1)) / np.linalg.norm(
        frequencies, axis=1, keepdims=True
    )
    amplitudes = generator.normal(size=count) * generator.uniform(0.08, 0.26)
    amplitudes /= np.linalg.norm(frequencies, axis=1) ** 0.5
    phases = generator.uniform(0, 2 * np.pi, size=count).astype(np.float32)
    waves, gains = frequencies.astype(np.float32), amplitudes.astype(np.float32)

    def field(points: Float32) -> Float32:
        distance = np.sqrt((points * points).sum(axis=0)) + np.float32(1e-4)
        heights = gains @ np.cos(waves @ (points / distance) + phases[:, None])
        return np.float32(0.7) * np.exp(heights) - distance

    return field


def superquadric(generator: np.random.Generator) -> Field:
    """A superellipsoid (Barr 1981), its two exponents between a box's and a spindle's."""
    east, north = log_uniform(generator, 0.3, 1.7), log_uniform(generator, 0.3, 1.7)
    axes = np.exp(generator.uniform(-0.75, 0.0, size=3)).astype(np.float32)
    smallest = axes.min()

    def field(points: Float32) -> Float32:
        x, y, z = np.abs(points / axes[:, None]) + np.float32(1e-4)
        around = (x ** (2 / east) + y ** (2 / east)) ** (east / north)
        return smallest * (1 - (around + z ** (2 / north)) ** (north / 2))

    return field


def soft_polytope(generator: np.random.Generator) -> Field:
    """A rounded wedge: the smooth intersection of four to eight half-spaces and a ball."""
    count = int(generator.integers(4, 9))
    normals = generator.normal(size=(count, 3))
    normals = (normals / np.linalg.norm(normals, axis=1, keepdims=True)).astype(np.float32)
    offsets = generator.uniform(0.2, 0.75, size=(count, 1)).astype(np.float32)
    sharpness = np.float32(generator.uniform(6, 18))

    def field(points: Float32) -> Float32:
        walls = normals @ points - offsets
        ball = np.sqrt((points * points).sum(axis=0)) - 1
        highest = np.maximum(walls.max(axis=0), ball)
        total = np.exp(sharpness * (walls - highest)).sum(axis=0) + np.exp(sharpness * (ball - highest))
        return -(highest + np.log(total) / sharpness)

    return field


def deformed(generator: np.random.Generator, field: Field, strength: float = 1.0) -> Field:
    """`field` tapered, twisted and bent about its own axes (Barr 1984), each by a random amount."""
    taper, twist, bend_y, bend_z = (
        np.float32(strength) * generator.normal(size=4) * np.array([0.4, 0.7, 0.55, 0.35])
    ).astype(np.float32)

    def bent(points: Float32) -> Float32:
        x, y, z = points
        y = y - bend_y * (x * x - np.float32(0.4))
        z = z - bend_z * (x * x - np.float32(0.4))
        cosine, sine = np.cos(twist * x), np.sin(twist * x)
        widen = 1 / np.maximum(1 + taper * np.clip(x, -1.5, 1.5), np.float32(0.3))
        return field(np.stack([x, (cosine * y + sine * z) * widen, (cosine * z - sine * y) * widen])) / widen

    return bent
