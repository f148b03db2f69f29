"""Surfaces led through a mask: its edge is met in the slice, nothing moves far from it, and the way is as written."""

import numpy as np
import pytest

from sam3d_objects.arrays import BoolArray
from sam3d_objects.evaluation.compare import cut_mask
from sam3d_objects.mesh import Mesh, surface_distance
from sam3d_objects.reconstruct import PatientField, average, surface_through_mask
from sam3d_objects.reconstruct.marked import FADE, REACH
from sam3d_objects.volume import SlicePlane, oblique_plane
from tests.reconstruct.organ import CENTER_MM, organ, placed, slice_of
from tests.reconstruct.test_fit import VIEWS, moved, plane_of

LENGTH_MM = 52.0


@pytest.fixture(scope="module")
def off() -> PatientField:
    """The organ, in another place and of another size than the slices show."""
    return average([moved(placed(organ()), np.array([1.5, -2.0, 1.0]), 1.06)])


def overlap(mesh: Mesh, mask: BoolArray, plane: SlicePlane) -> float:
    """Dice of a mesh's cut with a mask."""
    cut = cut_mask(mesh, plane)
    return float(2 * np.count_nonzero(cut & mask) / (np.count_nonzero(cut) + np.count_nonzero(mask)))


@pytest.mark.parametrize("view", VIEWS)
def test_the_cut_becomes_the_mask(off: PatientField, view: str) -> None:
    seen = slice_of(organ(), plane_of(view))
    found = surface_through_mask(off, 0.5, seen.mask, seen.plane)
    assert found.is_watertight
    assert overlap(off.mesh(0.5), seen.mask, seen.plane) < 0.95
    assert overlap(found, seen.mask, seen.plane) > 0.98


@pytest.mark.parametrize("spacing_mm", [(0.7, 3.0), (3.0, 0.7)])
def test_long_pixels_have_their_edge_halfway(off: PatientField, spacing_mm: tuple[float, float]) -> None:
    affine = oblique_plane(CENTER_MM, VIEWS["oblique"], (90, 90), 1.0).affine.copy()
    shape = tuple(int(90 / side) for side in spacing_mm)
    affine[:3, :2] *= spacing_mm
    plane = SlicePlane("axial", affine, (shape[0], shape[1]))
    seen = slice_of(organ(), plane)
    found = surface_through_mask(off, 0.5, seen.mask, plane)
    assert overlap(found, seen.mask, plane) > 0.97 > overlap(off.mesh(0.5), seen.mask, plane)


def test_far_from_the_slice_nothing_moves(off: PatientField) -> None:
    seen = slice_of(organ(), plane_of("axial"))
    found, own = surface_through_mask(off, 0.5, seen.mask, seen.plane), off.mesh(0.5)
    height_mm = np.abs(seen.plane.mm_to_pixel(found.vertices)[:, 2])
    change_mm = surface_distance(own, found.vertices)
    assert change_mm[height_mm < 1].max() > 1.5
    far = height_mm > 4.5 * FADE * LENGTH_MM
    assert change_mm[far].mean() < 0.05
    assert change_mm[far].max() < 0.5  # a third of a cell, at the organ's sharpest edge


@pytest.mark.parametrize("view", VIEWS)
def test_what_agrees_already_stays(view: str) -> None:
    seen, field = slice_of(organ(), plane_of(view)), average([placed(organ())])
    found = surface_through_mask(field, 0.5, seen.mask, seen.plane)
    # A mask tells its edge to half a pixel, along a diagonal.
    assert surface_distance(organ(), found.vertices).max() < 0.75 * seen.plane.pixel_spacing_mm[0]


def cylinder(radius_mm: float) -> tuple[PatientField, SlicePlane]:
    """A cylinder along the patient's third axis, 60 mm long, of 1 mm cells, and the plane through its middle."""
    x, y, z = np.indices((40, 40, 80))
    around = (radius_mm + 0.5 - np.hypot(x - 19.5, y - 19.5)).clip(0, 1)
    ends = (30.5 - np.abs(z - 39.5)).clip(0, 1)
    plane = oblique_plane(np.array([19.5, 19.5, 39.5]), np.eye(3), (80, 80), 0.5)
    return PatientField(around * ends, np.eye(4)), plane


def test_the_mask_counts_less_the_farther_it_is() -> None:
    field, plane = cylinder(10)
    points = plane.grid_mm()
    mask = np.hypot(points[..., 0] - 19.5, points[..., 1] - 19.5) < 12
    found = surface_through_mask(field, 0.5, mask, plane)
    height_mm = np.abs(found.vertices[:, 2] - 39.5)
    side = height_mm < 20
    radius_mm = np.hypot(*(found.vertices[side, :2] - 19.5).T)
    expected_mm = 10 + 2 * np.exp(-0.5 * np.square(height_mm[side] / (FADE * 61)))
    np.testing.assert_allclose(radius_mm, expected_mm, atol=0.35)
    assert abs(np.mean(radius_mm - expected_mm)) < 0.1


def test_a_part_out_of_reach_becomes_no_disc() -> None:
    field, plane = cylinder(6)
    points = plane.grid_mm()
    mask = np.hypot(points[..., 0] - 19.5, points[..., 1] - 19.5) < 6
    far = np.hypot(points[..., 0] - 34.5, points[..., 1] - 19.5) < 2
    assert 8 > REACH * 61 > 2
    found = surface_through_mask(field, 0.5, mask | far, plane)
    alone = surface_through_mask(field, 0.5, mask, plane)
    np.testing.assert_allclose(found.bounds, alone.bounds, atol=0.3)


def test_a_mask_beyond_the_fields_grid_is_held() -> None:
    field, plane = cylinder(17)
    points = plane.grid_mm()
    mask = np.hypot(points[..., 0] - 22.5, points[..., 1] - 19.5) < 17.5
    assert field.values.shape[0] - 0.5 < 22.5 + 17.5
    found = surface_through_mask(field, 0.5, mask, plane)
    assert overlap(found, mask, plane) > 0.98
    assert found.is_watertight


def test_an_organ_that_leaves_the_image_is_not_cut_at_its_border() -> None:
    field, plane = cylinder(10)
    half = plane.window(0, 80, 0, 40)  # the organ's middle is the image's last column
    points = half.grid_mm()
    mask = np.hypot(points[..., 0] - 19.5, points[..., 1] - 19.5) < 10
    assert mask[:, -1].any()
    found = surface_through_mask(field, 0.5, mask, half)
    assert surface_distance(field.mesh(0.5), found.vertices).max() < 0.5


@pytest.mark.parametrize("value", [False, True])
def test_a_mask_without_an_edge_says_nothing(off: PatientField, value: bool) -> None:
    plane = plane_of("axial")
    found = surface_through_mask(off, 0.4, np.full(plane.shape, value), plane)
    np.testing.assert_array_equal(found.vertices, off.mesh(0.4).vertices)


def test_a_small_surface_in_a_large_mask_grows_by_the_most_that_it_may() -> None:
    field, plane = cylinder(6)
    points = plane.grid_mm()
    mask = np.abs(points[..., 0] - 19.5) < 19
    found = surface_through_mask(field, 0.5, mask, plane)
    assert found.is_watertight
    at_slice = found.vertices[np.abs(found.vertices[:, 2] - 39.5) < 0.3, :2] - 19.5
    np.testing.assert_allclose(np.hypot(*at_slice.T), 6 + REACH * 61, atol=0.5)


def test_a_surface_that_misses_the_mask_stays_whatever_lies_between() -> None:
    field, plane = cylinder(6)
    far = oblique_plane(np.array([5000.0, 19.5, 39.5]), np.eye(3), (80, 80), 0.5)
    mask = np.zeros((80, 80), dtype=bool)
    mask[30:50, 30:50] = True
    np.testing.assert_array_equal(surface_through_mask(field, 0.5, mask, far).vertices, field.mesh(0.5).vertices)
    beside = np.roll(mask, -30, axis=1)
    assert not cut_mask(field.mesh(0.5), plane)[beside].any()
    np.testing.assert_array_equal(surface_through_mask(field, 0.5, beside, plane).vertices, field.mesh(0.5).vertices)


def test_nothing_above_the_threshold_is_refused() -> None:
    plane = plane_of("axial")
    mask = slice_of(organ(), plane).mask
    with pytest.raises(ValueError, match="no voxel is above"):
        surface_through_mask(PatientField(np.zeros((8, 8, 8)), np.eye(4)), 0.5, mask, plane)
