"""Spread by hand: balls about one centre, whose surfaces are a known distance apart everywhere."""

from dataclasses import replace

import numpy as np
import pytest

from sam3d_objects.adapter import InferenceContract
from sam3d_objects.arrays import FloatArray
from sam3d_objects.mesh import ObjectFrame
from sam3d_objects.reconstruct import PlacedSolid, Reconstructor, average, spread_mm
from sam3d_objects.volume import oblique_plane
from tests.reconstruct.organ import CENTER_MM, organ, slice_of
from tests.training.small_model import small_model

RESOLUTION = 32


def ball(radius_mm: float, weight: float = 1.0, shift_mm: tuple[float, float, float] = (0, 0, 0)) -> PlacedSolid:
    """A ball that leaves a tenth of its cube free on each side."""
    centres = (np.arange(RESOLUTION) + 0.5) / RESOLUTION - 0.5
    radius = np.linalg.norm(np.stack(np.meshgrid(*[centres] * 3, indexing="ij")), axis=0)
    field = np.clip((0.4 - radius) * RESOLUTION + 0.5, 0, 1)
    return PlacedSolid(field, ObjectFrame(CENTER_MM + np.array(shift_mm), radius_mm / 0.4), weight)


def empty() -> PlacedSolid:
    return PlacedSolid(np.zeros((RESOLUTION,) * 3), ObjectFrame(CENTER_MM, 30.0))


def spread_about(radius_mm: float, samples: list[PlacedSolid]) -> FloatArray:
    """The spread at a ball's vertices."""
    found = spread_mm(average([ball(radius_mm)]).mesh(0.5), samples)
    assert found is not None
    return found


def test_equal_samples_have_none() -> None:
    assert spread_about(20.0, [ball(20.0)] * 3).max() < 0.05


def test_it_is_the_weighted_root_mean_square_of_the_distances() -> None:
    # Surfaces 1 mm inside and 3 mm outside: sqrt((3 x 1 + 1 x 9) / 4).
    found = spread_about(20.0, [ball(19.0, weight=3.0), ball(23.0, weight=1.0)])
    np.testing.assert_allclose(found, np.sqrt(3), atol=0.1)


def test_a_surface_off_all_samples_is_unsure_though_they_agree() -> None:
    np.testing.assert_allclose(spread_about(20.0, [ball(24.0)] * 2), 4.0, atol=0.1)


def test_it_is_large_where_the_samples_part() -> None:
    mesh = average([ball(20.0)]).mesh(0.5)
    found = spread_mm(mesh, [ball(20.0), ball(20.0, shift_mm=(6.0, 0, 0))])
    assert found is not None and found.shape == (len(mesh.vertices),)
    along = (mesh.vertices - CENTER_MM)[:, 0] / 20
    assert found[np.abs(along) > 0.95].min() > 3.5  # 6 mm / sqrt(2) at the poles
    assert found[np.abs(along) < 0.05].max() < 1.0


def test_a_sample_without_a_surface_does_not_count_and_one_is_not_enough() -> None:
    mesh = average([ball(20.0)]).mesh(0.5)
    samples = [ball(19.0), ball(21.0)]
    np.testing.assert_array_equal(spread_mm(mesh, [*samples, empty()]), spread_mm(mesh, samples))
    assert spread_mm(mesh, [ball(19.0), empty()]) is None
    assert spread_mm(mesh, [ball(19.0)]) is None


@pytest.mark.parametrize("samples", [1, 3])
def test_a_prediction_is_the_call_with_its_spread(samples: int) -> None:
    contract = InferenceContract(field_of_view="mask_margin", modality="mr", steps=1, samples=samples, threshold=0.2)
    slice = slice_of(organ(), oblique_plane(CENTER_MM, np.eye(3), (50, 50), 1.2))
    reconstructor = Reconstructor(small_model(), replace(contract, fit=False), "structure")
    predicted = reconstructor.predict(slice, 2)
    np.testing.assert_array_equal(predicted.mesh.vertices, reconstructor(slice, 2).vertices)
    again = reconstructor.spread_mm(predicted.mesh, slice, 2)
    if samples == 1:
        assert predicted.spread_mm is None and again is None
    else:
        np.testing.assert_array_equal(predicted.spread_mm, again)
