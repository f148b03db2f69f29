"""Rendered slices show what their frame says: the placed shape, cut, is the mask."""

import numpy as np
import pytest

from sam3d_objects.mesh import Mesh, contains, surface_from_field
from sam3d_objects.pretraining.bank import ShapeBank
from sam3d_objects.pretraining.slices import RenderedSlice, render_slice
from sam3d_objects.volume import PLANES
from tests.pretraining.conftest import SHAPES

SLICES = 18


@pytest.fixture(scope="module")
def rendered(shapes: ShapeBank) -> list[RenderedSlice]:
    return [render_slice(shapes, i % SHAPES, np.random.default_rng([1, i])) for i in range(SLICES)]


def object_mesh(shapes: ShapeBank, index: int) -> Mesh:
    """The shape's surface in object coordinates, from its own field."""
    to_object = np.eye(4)
    to_object[:3, :3] /= shapes.sizes_vox[index]
    to_object[:3, 3] = -shapes.centers_vox[index] / shapes.sizes_vox[index]
    return surface_from_field(shapes.fields[index].astype(np.float32), 0.0, to_object)


def test_mask_is_the_cut_of_the_placed_shape(shapes: ShapeBank, rendered: list[RenderedSlice]) -> None:
    assert {one.slice.plane.name for one in rendered} == set(PLANES)
    for number, one in enumerate(rendered):
        mesh = object_mesh(shapes, number % SHAPES).transformed(one.frame.object_affine())
        inside = contains(mesh, one.slice.plane.grid_mm().reshape(-1, 3)).reshape(one.slice.plane.shape)
        dice = 2 * (inside & one.slice.mask).sum() / (inside.sum() + one.slice.mask.sum())
        assert dice > 0.9, f"slice {number} ({one.slice.plane.name}): Dice {dice:.3f}"


def test_frame_is_the_box_of_the_placed_shape(shapes: ShapeBank, rendered: list[RenderedSlice]) -> None:
    for number, one in enumerate(rendered[:SHAPES]):
        bounds = object_mesh(shapes, number).transformed(one.frame.object_affine()).bounds
        np.testing.assert_allclose(bounds.mean(axis=0), one.frame.center_mm, atol=0.01 * one.frame.size_mm)
        assert (bounds[1] - bounds[0]).max() == pytest.approx(one.frame.size_mm, rel=0.01)
        assert 20 <= one.frame.size_mm <= 250


def test_what_the_model_sees(rendered: list[RenderedSlice]) -> None:
    for one in rendered:
        assert one.image01.shape == one.slice.mask.shape == one.pointmap.shape[:2]
        assert one.image01.min() >= 0 and one.image01.max() <= 1
        assert np.array_equal(np.isfinite(one.pointmap).all(axis=-1), one.slice.valid)
        assert np.abs(one.pointmap[one.slice.valid][:, 2]).max() < 1e-3, "the plane is z = 0 of its own camera"
        assert one.slice.mask.sum() >= 4
        assert not one.slice.mask[0].any() and not one.slice.mask[:, -1].any(), "a margin is around the mask"


def test_the_generator_decides(shapes: ShapeBank) -> None:
    one, again, other = (render_slice(shapes, 2, np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert np.array_equal(one.image01, again.image01)
    assert np.array_equal(one.slice.plane.affine, again.slice.plane.affine)
    assert one.frame.size_mm != other.frame.size_mm
