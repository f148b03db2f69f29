"""The bank of procedural shapes: boxes and solids against an analytic ball, files that are made once."""

from pathlib import Path

import numpy as np
import pytest

from sam3d_objects.pretraining import bank
from sam3d_objects.pretraining.bank import FIELD_SIDE, FIELD_STEP, load_bank, solid_in_unit_cube, zero_crossing_box
from sam3d_objects.synthetic import random_shape
from tests.pretraining.conftest import RESOLUTION, SEED, SHAPES

# Chosen so that no face of the ball's box lies on a voxel centre.
CENTER, RADIUS = np.array([23.0, 24.0, 22.0]), 18.3


def ball(stretch: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> np.ndarray:
    """Signed field of a ball, or of an ellipsoid, positive inside."""
    points = np.stack(np.meshgrid(*(np.arange(FIELD_SIDE),) * 3, indexing="ij"), axis=-1)
    return (RADIUS - np.linalg.norm((points - CENTER) / stretch, axis=-1)).astype(np.float32)


def test_box_of_a_ball() -> None:
    low, high = zero_crossing_box(ball())
    np.testing.assert_allclose(low, CENTER - RADIUS, atol=1e-4)
    np.testing.assert_allclose(high, CENTER + RADIUS, atol=1e-4)


def test_box_of_an_ellipsoid() -> None:
    stretch = (1.0, 0.5, 0.25)
    low, high = zero_crossing_box(ball(stretch))
    np.testing.assert_allclose(high - low, 2 * RADIUS * np.array(stretch), atol=1e-3)


def test_box_at_the_border_of_the_grid() -> None:
    field = np.full((5, 5, 5), -1.0, np.float32)
    field[0, 2, 2] = 3.0
    low, high = zero_crossing_box(field)
    np.testing.assert_allclose(low, [0, 2 - 0.75, 2 - 0.75])
    np.testing.assert_allclose(high, [0.75, 2.75, 2.75])


@pytest.mark.parametrize("resolution", [16, 32])
def test_solid_of_a_ball(resolution: int) -> None:
    solid = solid_in_unit_cube(ball(), CENTER.astype(np.float32), 2 * RADIUS, resolution) / 255
    assert solid.shape == (resolution,) * 3
    assert solid.sum() / resolution**3 == pytest.approx(np.pi / 6, rel=0.005)
    for axis in range(3):
        np.testing.assert_allclose(solid, np.flip(solid, axis), atol=1.5 / 255)
    middle, corner = resolution // 2, 0
    assert solid[middle, middle, middle] == 1 and solid[corner, corner, corner] == 0


def test_solid_keeps_the_axes_apart() -> None:
    field = ball((1.0, 0.5, 0.25))
    solid = solid_in_unit_cube(field, CENTER.astype(np.float32), 2 * RADIUS, 32) > 127
    assert [int(solid.any(axis=tuple({0, 1, 2} - {axis})).sum()) for axis in range(3)] == [32, 16, 8]


def test_bank_holds_the_shapes_of_its_seed(shapes: bank.ShapeBank) -> None:
    assert len(shapes) == SHAPES
    for index in (0, SHAPES - 1):
        field = random_shape(np.random.default_rng([SEED, index]), FIELD_SIDE)
        near = np.abs(field) < 3
        assert np.abs(shapes.fields[index] * FIELD_STEP - field)[near].max() <= FIELD_STEP / 2
        low, high = zero_crossing_box(field)
        np.testing.assert_allclose(shapes.centers_vox[index], (low + high) / 2)
        assert shapes.sizes_vox[index] == pytest.approx((high - low).max())
        solid = solid_in_unit_cube(field, shapes.centers_vox[index], float(shapes.sizes_vox[index]), RESOLUTION)
        assert np.array_equal(shapes.solids[index], solid)


def test_shapes_are_made_once(small_chunks: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_bank(tmp_path, 3, SEED, 16, 1)
    assert [path.name for path in tmp_path.iterdir()] == [f"shapes_{SEED}_16_000000.npz"]
    made: list[int] = []

    def counted(generator: np.random.Generator, resolution: int) -> np.ndarray:
        made.append(resolution)
        return random_shape(generator, resolution)

    monkeypatch.setattr(bank, "random_shape", counted)
    grown = load_bank(tmp_path, 4, SEED, 16, 1)  # rounded up to two chunks of three
    assert (len(grown), len(made)) == (6, 3)
    assert np.array_equal(grown.solids[:3], first.solids)
    assert len(load_bank(tmp_path, 6, SEED, 16, 1)) == 6 and len(made) == 3


def test_a_broken_chunk_leaves_nothing(small_chunks: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*arguments: object) -> np.ndarray:
        raise KeyboardInterrupt

    monkeypatch.setattr(bank, "random_shape", stop)
    with pytest.raises(KeyboardInterrupt):
        load_bank(tmp_path, 3, SEED, 16, 1)
    assert list(tmp_path.iterdir()) == []
