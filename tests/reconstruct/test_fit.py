"""The fit: known shifts and scales are found again, and nothing but the mask is used."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from sam3d_objects.arrays import FloatArray
from sam3d_objects.mesh import ObjectFrame
from sam3d_objects.reconstruct import PlacedSolid, average, fit_to_mask
from sam3d_objects.volume import SlicePlane, cut_to_mask, oblique_plane
from tests.reconstruct.organ import CENTER_MM, organ, placed, slice_of

PIXEL_MM = 1.2
VIEWS = {
    "axial": np.eye(3),
    "coronal": np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),
    "sagittal": np.array([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]]),
    "oblique": Rotation.from_euler("xyz", [25, -35, 15], degrees=True).as_matrix(),
}


@pytest.fixture(scope="module")
def truth() -> PlacedSolid:
    return placed(organ())


def plane_of(view: str) -> SlicePlane:
    return oblique_plane(CENTER_MM + np.array([1.0, -2.0, 1.5]), VIEWS[view], (70, 70), PIXEL_MM)


def moved(sample: PlacedSolid, shift_mm: FloatArray, factor: float = 1.0) -> PlacedSolid:
    return PlacedSolid(sample.field, ObjectFrame(sample.frame.center_mm + shift_mm, sample.frame.size_mm * factor))


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize(("left", "up", "factor"), [(3.0, -2.0, 1.0), (0.0, 0.0, 1.1), (-2.0, 3.5, 0.92)])
def test_a_known_change_is_found_again(truth: PlacedSolid, view: str, left: float, up: float, factor: float) -> None:
    plane = plane_of(view)
    seen = cut_to_mask(slice_of(organ(), plane), 3.0)
    axes = VIEWS[view]
    wrong = moved(truth, left * axes[0] + up * axes[1], factor)
    (found,) = fit_to_mask([wrong], seen.mask, seen.plane)
    # The slice does not show its own through-plane place, and the organ's size only together with it.
    off_mm = axes[:2] @ (found.frame.center_mm - truth.frame.center_mm)
    assert np.abs(off_mm).max() < 0.8
    assert found.frame.size_mm == pytest.approx(truth.frame.size_mm, rel=0.05)
    assert found.field is wrong.field


@pytest.mark.parametrize("view", VIEWS)
def test_what_fits_already_stays(truth: PlacedSolid, view: str) -> None:
    seen = cut_to_mask(slice_of(organ(), plane_of(view)), 3.0)
    (found,) = fit_to_mask([truth], seen.mask, seen.plane)
    assert np.linalg.norm(found.frame.center_mm - truth.frame.center_mm) < 0.015 * truth.frame.size_mm
    assert found.frame.size_mm == pytest.approx(truth.frame.size_mm, rel=0.015)


def test_samples_are_fitted_apart(truth: PlacedSolid) -> None:
    seen = cut_to_mask(slice_of(organ(), plane_of("axial")), 3.0)
    samples = [moved(truth, np.array([2.0, 1.0, 0.0])), moved(truth, np.array([-3.0, 0.0, 0.0]), 1.05)]
    together = fit_to_mask(samples, seen.mask, seen.plane)
    for sample, expected in zip(samples, together, strict=True):
        (alone,) = fit_to_mask([sample], seen.mask, seen.plane)
        np.testing.assert_allclose(alone.frame.center_mm, expected.frame.center_mm, atol=1e-3)
        assert alone.frame.size_mm == pytest.approx(expected.frame.size_mm, rel=1e-4)


def test_more_empty_pixels_around_change_nothing(truth: PlacedSolid) -> None:
    # Where the sample's cut stays within the window, a wider one tells no more.
    whole = slice_of(organ(), plane_of("sagittal"))
    near = cut_to_mask(whole, 12.0)
    sample = moved(truth, np.array([0.0, 2.0, -1.0]))
    (one,), (other,) = (fit_to_mask([sample], seen.mask, seen.plane) for seen in (near, whole))
    np.testing.assert_allclose(one.frame.center_mm, other.frame.center_mm, atol=0.02)


def test_a_sample_that_misses_the_mask_stays(truth: PlacedSolid) -> None:
    seen = cut_to_mask(slice_of(organ(), plane_of("axial")), 3.0)
    (found,) = fit_to_mask([moved(truth, np.array([0.0, 0.0, 400.0]))], seen.mask, seen.plane)
    np.testing.assert_allclose(found.frame.center_mm - truth.frame.center_mm, [0, 0, 400], atol=1e-3)
    assert found.frame.size_mm == pytest.approx(truth.frame.size_mm)


def test_the_fit_moves_with_the_patient(truth: PlacedSolid) -> None:
    plane, shift = plane_of("coronal"), np.array([120.0, -80.0, 300.0])
    affine = plane.affine.copy()
    affine[:3, 3] += shift
    mask = slice_of(organ(), plane).mask
    sample = moved(truth, np.array([2.0, 1.0, -2.0]))
    (here,) = fit_to_mask([sample], mask, plane)
    (there,) = fit_to_mask([moved(sample, shift)], mask, SlicePlane(plane.name, affine, plane.shape))
    np.testing.assert_allclose(there.frame.center_mm - shift, here.frame.center_mm, atol=0.01)


def test_a_sample_that_the_slice_contradicts_counts_less(truth: PlacedSolid) -> None:
    plane = plane_of("axial")
    seen = cut_to_mask(slice_of(organ(), plane), 3.0)
    far = moved(truth, 3 * truth.frame.size_mm * VIEWS["axial"][2])  # its cut misses the mask, and no fit reaches it
    good, bad = fit_to_mask([truth, far], seen.mask, seen.plane)
    assert 0 < bad.weight < 1e-6 * good.weight
    assert good.weight <= 1


def test_the_average_is_weighted(truth: PlacedSolid) -> None:
    empty = PlacedSolid(np.zeros_like(truth.field), truth.frame, weight=3.0)
    alone = average([truth])
    mixed = average([truth, empty])
    assert mixed.values.max() == pytest.approx(alone.values.max() / 4, rel=1e-5)


@pytest.mark.parametrize(
    ("view", "shift_mm", "factor"),
    [("coronal", (6, -5, 7), 1.3), ("sagittal", (6, -5, 7), 1.3), ("oblique", (-4, 8, 3), 0.75)],
)
def test_a_rounding_error_stays_one(
    truth: PlacedSolid, view: str, shift_mm: tuple[float, float, float], factor: float
) -> None:
    """A merged model's samples differ from the adapted one's by rounding; the fit must not swing on that."""
    seen = cut_to_mask(slice_of(organ(), plane_of(view)), 3.0)
    half = seen.mask.copy()
    half[: len(half) // 2] = False  # no sample fits it well
    start = moved(truth, np.array(shift_mm, dtype=np.float64), factor)
    noise = 1e-6 * np.random.default_rng(0).standard_normal(truth.field.shape)
    frame = ObjectFrame(start.frame.center_mm + 1e-6, start.frame.size_mm)
    other = PlacedSolid(np.clip(truth.field + noise, 0, 1), frame)
    (one,), (two,) = (fit_to_mask([sample], half, seen.plane) for sample in (start, other))
    assert np.abs(one.frame.center_mm - two.frame.center_mm).max() < 0.0015
