"""Random shapes: reproducible, one centred part of the promised span, distances near the surface."""

import time

import numpy as np
import pytest
from scipy import ndimage

from sam3d_objects.synthetic import FAMILIES, random_shape
from sam3d_objects.synthetic.fields import ellipsoid_radii, random_rotation, smooth_max
from sam3d_objects.synthetic.fitting import SPAN_RANGE, fitted


@pytest.fixture(scope="module", params=[*FAMILIES])
def shapes(request: pytest.FixtureRequest) -> list[np.ndarray]:
    generator = np.random.default_rng(11)
    return [random_shape(generator, 48, request.param) for _ in range(12)]


def test_each_is_one_centred_part_of_the_promised_span(shapes: list[np.ndarray]) -> None:
    for shape in shapes:
        assert shape.shape == (48, 48, 48)
        assert shape.dtype == np.float32
        assert np.isfinite(shape).all()
        inside = shape > 0
        assert ndimage.label(inside)[1] == 1
        indices = np.argwhere(inside)
        span = (np.ptp(indices, axis=0).max() + 1) / 48
        assert SPAN_RANGE[0] <= span <= SPAN_RANGE[1]
        middle = (indices.max(axis=0) + indices.min(axis=0)) / 2
        assert np.abs(middle - 23.5).max() <= 0.5
        assert 0.015 < inside.mean() < 0.7


def test_the_border_is_outside(shapes: list[np.ndarray]) -> None:
    for shape in shapes:
        border = np.ones((48, 48, 48), bool)
        border[1:-1, 1:-1, 1:-1] = False
        assert (shape[border] <= 0).all()


def test_slope_at_the_surface_is_about_one_a_voxel(shapes: list[np.ndarray]) -> None:
    medians = []
    for shape in shapes:
        slope = np.sqrt(sum(g * g for g in np.gradient(shape)))
        medians.append(np.median(slope[np.abs(shape) < 0.5]))
    assert 0.9 < np.median(medians) < 1.1
    assert min(medians) > 0.6
    assert max(medians) < 1.5


def test_same_seed_same_shape_and_another_seed_another() -> None:
    first = random_shape(np.random.default_rng(3))
    np.testing.assert_array_equal(first, random_shape(np.random.default_rng(3)))
    assert not np.array_equal(first, random_shape(np.random.default_rng(4)))


@pytest.mark.parametrize("resolution", [16, 32, 33, 64])
def test_other_resolutions(resolution: int) -> None:
    generator = np.random.default_rng(resolution)
    for _ in range(3):
        shape = random_shape(generator, resolution)
        assert shape.shape == (resolution,) * 3
        span = (np.ptp(np.argwhere(shape > 0), axis=0).max() + 1) / resolution
        assert SPAN_RANGE[0] <= span <= SPAN_RANGE[1]


def test_tubes_are_longer_than_blobs() -> None:
    def median_elongation(family: str) -> float:
        generator = np.random.default_rng(5)
        ratios = []
        for _ in range(20):
            points = np.argwhere(random_shape(generator, 32, family) > 0)
            spread = np.linalg.eigvalsh(np.cov(points.T))
            ratios.append(np.sqrt(spread[-1] / spread[0]))
        return float(np.median(ratios))

    assert median_elongation("tube") > 1.3 * median_elongation("blob")


def test_fast_enough_to_draw_during_training() -> None:
    generator = np.random.default_rng(0)
    random_shape(generator)
    start_s = time.process_time()
    for _ in range(20):
        random_shape(generator)
    # About 12 ms is usual; the rest is for slow and busy machines.
    assert (time.process_time() - start_s) / 20 < 0.06


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="at least 16 voxels, got 8"):
        random_shape(np.random.default_rng(0), 8)
    with pytest.raises(ValueError, match="'organ'"):
        random_shape(np.random.default_rng(0), family="organ")
    assert sum(FAMILIES.values()) == pytest.approx(1)


def test_a_ball_is_fitted_to_its_distance() -> None:
    """A ball of any size becomes one whose field is the distance to its surface, up to the surface noise."""
    field = fitted(lambda p: 3 * (0.4 - np.sqrt((p * p).sum(axis=0))), np.random.default_rng(2), 48)
    assert field is not None
    radius = np.cbrt((field > 0).sum() * 3 / (4 * np.pi))
    distance = radius - np.linalg.norm(np.indices((48,) * 3) - 23.5, axis=0)
    near = np.abs(distance) < 1
    assert np.abs(field - distance)[near].mean() < 1.0


@pytest.mark.parametrize("radius", [0.0, 2.5])
def test_an_empty_solid_and_one_that_leaves_the_scout_are_refused(radius: float) -> None:
    empty = fitted(lambda p: radius - np.sqrt((p * p).sum(axis=0)) - 1.0, np.random.default_rng(0), 32)
    huge = fitted(lambda p: 5 + radius - np.sqrt((p * p).sum(axis=0)), np.random.default_rng(0), 32)
    assert huge is None
    assert (empty is None) == (radius == 0.0)


def test_ellipsoid_radii_match_the_definition() -> None:
    generator = np.random.default_rng(1)
    points = generator.normal(size=(3, 50)).astype(np.float32)
    centers, whitening = generator.normal(size=(4, 3)), generator.normal(size=(4, 3, 3))
    offsets = points.T[None] - centers[:, None]
    expected = (np.einsum("kij,knj->kni", whitening, offsets) ** 2).sum(axis=-1)
    np.testing.assert_allclose(ellipsoid_radii(points, centers, whitening), expected, rtol=1e-3, atol=1e-3)


def test_rotations_are_rotations() -> None:
    generator = np.random.default_rng(0)
    for _ in range(5):
        matrix = random_rotation(generator)
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(matrix) == pytest.approx(1)


def test_smooth_max_by_hand() -> None:
    a = np.array([0.0, 1.0, 0.5], np.float32)
    b = np.array([0.0, 0.0, 0.4], np.float32)
    # Equal values rise by softness / 4, values further apart than the softness not at all.
    expected = [0.05, 1.0, 0.5 + 0.25 * 0.05]
    np.testing.assert_allclose(smooth_max(a, b, np.float32(0.2)), expected, atol=1e-6)
