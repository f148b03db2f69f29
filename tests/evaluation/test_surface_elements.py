"""Surface elements against areas worked by hand."""

import numpy as np
import pytest

from sam3d_objects.evaluation.surface_elements import code_areas_mm2, surface_elements

CORNER = np.sqrt(3) / 8  # a triangle between the middles of three voxel edges
EDGE = np.sqrt(0.5)  # a rectangle, 1 by sqrt(1/2)


def cube(size: int) -> np.ndarray:
    mask = np.zeros((size + 4,) * 3, dtype=bool)
    mask[2:-2, 2:-2, 2:-2] = True
    return mask


def test_codes_by_hand() -> None:
    areas = code_areas_mm2(np.eye(3))
    assert areas[0] == areas[255] == 0
    assert areas[1] == pytest.approx(CORNER)
    assert areas[0b11] == pytest.approx(EDGE)
    assert areas[0b1111] == pytest.approx(1.0)


def test_a_code_and_its_complement_have_one_surface() -> None:
    areas = code_areas_mm2(np.diag([1.0, 2.0, 0.5]))
    minority = [code for code in range(256) if code.bit_count() != 4]
    assert all(areas[code] == pytest.approx(areas[255 - code]) for code in minority)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_area_of_a_cube(size: int) -> None:
    elements = surface_elements(cube(size), np.eye(4))
    flat = 6 * (size - 1) ** 2
    assert elements.areas_mm2.sum() == pytest.approx(flat + 12 * (size - 1) * EDGE + 8 * CORNER)
    assert np.ptp(elements.points_mm, axis=0) == pytest.approx([size] * 3)


def test_area_of_a_face_follows_the_spacing() -> None:
    areas = code_areas_mm2(np.diag([0.5, 2.0, 3.0]))
    assert areas[0b11110000] == pytest.approx(6.0)  # a face across the first axis
    assert areas[0b11001100] == pytest.approx(1.5)
    assert areas[0b10101010] == pytest.approx(1.0)


def test_areas_do_not_depend_on_how_the_scan_lies() -> None:
    mask = np.random.default_rng(0).random((6, 7, 8)) > 0.5
    spacing = np.diag([0.8, 1.2, 3.0])
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = spacing
    turned = np.eye(4)
    turned[:3, :3] = turn @ spacing
    straight, oblique = surface_elements(mask, affine), surface_elements(mask, turned)
    assert oblique.areas_mm2 == pytest.approx(straight.areas_mm2)
    assert oblique.points_mm == pytest.approx(straight.points_mm @ turn.T)


def test_a_mask_at_the_border_is_closed() -> None:
    full = surface_elements(np.ones((3, 3, 3), dtype=bool), np.eye(4))
    assert full.areas_mm2.sum() == pytest.approx(surface_elements(cube(3), np.eye(4)).areas_mm2.sum())


def test_an_empty_mask_has_no_elements_and_is_infinitely_far() -> None:
    empty = surface_elements(np.zeros((3, 3, 3), dtype=bool), np.eye(4))
    some = surface_elements(cube(2), np.eye(4))
    assert len(empty.points_mm) == 0
    assert np.isinf(some.distances_to_mm(empty)).all()
    assert len(empty.distances_to_mm(some)) == 0
