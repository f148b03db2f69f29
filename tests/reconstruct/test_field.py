"""Fields against analytic bodies: shells filled to their middle, averages in patient space, one closed part."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from sam3d_objects.arrays import FloatArray
from sam3d_objects.mesh import (
    Mesh,
    ObjectFrame,
    object_grid_affine,
    solid_from_shell,
    surface_from_field,
    surface_voxels,
)
from sam3d_objects.reconstruct import PatientField, PlacedSolid, average

BALL = 4 / 3 * np.pi
CENTER_MM = np.array([12.3, -40.7, 5.1])


def grid(resolution: int, side: float = 1.0) -> FloatArray:
    """Cell centres of a cube about the origin, (R, R, R, 3)."""
    centres = ((np.arange(resolution) + 0.5) / resolution - 0.5) * side
    return np.stack(np.meshgrid(centres, centres, centres, indexing="ij"), axis=-1)


def ball(resolution: int, radius: float = 0.5) -> FloatArray:
    """Share of each cell of the unit cube that a ball about its middle fills."""
    depth = (radius - np.linalg.norm(grid(resolution), axis=-1)) * resolution
    return np.clip(depth + 0.5, 0, 1)


def ellipsoid_mesh(radii: FloatArray, turn: FloatArray) -> Mesh:
    """An ellipsoid in object coordinates."""
    count, side = 80, 1.1
    field = 1 - np.linalg.norm(grid(count, side) @ turn / radii, axis=-1)
    return surface_from_field(field, 0.0, np.diag([side, side, side, 1.0]) @ object_grid_affine(count))


def shell_of(mesh: Mesh, resolution: int) -> FloatArray:
    occupied = np.zeros((resolution,) * 3)
    occupied[tuple(surface_voxels(mesh, resolution).T)] = 1
    return occupied


def volume_of(field: FloatArray) -> float:
    return surface_from_field(field, 0.5, object_grid_affine(len(field))).volume


@pytest.mark.parametrize(
    ("radii", "turn"),
    [
        ((0.5, 0.5, 0.5), 0),
        ((0.4, 0.4, 0.4), 0),
        ((0.25, 0.25, 0.25), 0),
        ((0.45, 0.2, 0.12), 1),
        ((0.45, 0.2, 0.12), 2),
    ],
)
def test_middle_of_a_shell_has_the_volume_of_the_body(radii: tuple[float, float, float], turn: int) -> None:
    mesh = ellipsoid_mesh(np.array(radii), Rotation.random(rng=turn).as_matrix())
    occupied = shell_of(mesh, 64)
    assert volume_of(solid_from_shell(occupied)) == pytest.approx(mesh.volume, rel=0.03)
    # Trap 13: the same shell, filled, is too fat by much more.
    filled = (solid_from_shell(occupied) > 0).astype(float)
    assert volume_of(filled) > 1.06 * mesh.volume


def test_a_box_of_voxels_by_hand() -> None:
    occupied = np.zeros((9, 9, 9))
    occupied[1:8, 1:8, 1:8] = 1
    occupied[2:7, 2:7, 2:7] = 0
    solid = solid_from_shell(occupied)
    # The shell's voxels lie on the surface, what they hold is inside, and the corners of the cube are not.
    assert solid[4].round(3).tolist()[4] == [0, 0.5, 1, 1, 1, 1, 1, 0.5, 0]
    assert solid[0].max() == 0


def test_parts_without_a_hollow_are_not_lost() -> None:
    thick = np.zeros((9, 9, 9))
    thick[3:6, 3:6, 3:6] = 1
    solid = solid_from_shell(thick)
    assert solid[4, 4].tolist() == [0, 0, 0, 0.5, 1, 0.5, 0, 0, 0]
    assert solid_from_shell(np.zeros((4, 4, 4))).max() == 0


def test_a_shell_with_a_hole_stays_a_shell() -> None:
    occupied = shell_of(ellipsoid_mesh(np.full(3, 0.45), np.eye(3)), 32)
    occupied[:5] = 0
    solid = solid_from_shell(occupied)
    assert solid[16, 16, 16] == 0
    assert np.array_equal(solid > 0, occupied > 0)


@pytest.mark.parametrize("resolution", [32, 64])
def test_a_ball_in_the_patient(resolution: int) -> None:
    mesh = average([PlacedSolid(ball(resolution), ObjectFrame(CENTER_MM, 40.0))]).mesh(0.5)
    assert mesh.is_watertight
    assert mesh.volume == pytest.approx(BALL * 20**3, rel=0.03)
    np.testing.assert_allclose(mesh.bounds, [CENTER_MM - 20, CENTER_MM + 20], atol=0.1)


def test_samples_off_each_others_grid_keep_their_volume() -> None:
    # Both fill their cube to the faces; the second lies askew of the first one's cells.
    frames = [ObjectFrame(CENTER_MM, 40.0), ObjectFrame(CENTER_MM + 0.01, 39.7)]
    mesh = average([PlacedSolid(np.ones((16, 16, 16)), frame) for frame in frames]).mesh(0.5)
    assert mesh.volume == pytest.approx(39.85**3, rel=0.03)


def test_threshold_chooses_between_all_and_any() -> None:
    apart = [ObjectFrame(CENTER_MM + np.array([offset, 0, 0]), 40.0) for offset in (-3.0, 3.0)]
    field = average([PlacedSolid(ball(32), frame) for frame in apart])
    any_of, all_of = field.mesh(0.25), field.mesh(0.75)
    # Two balls of radius 20, 6 apart, share a lens of 2 pi h^2 (3 r - h) / 3, h = 20 - 3.
    lens = 2 * np.pi * 17**2 * (60 - 17) / 3
    assert all_of.volume == pytest.approx(lens, rel=0.03)
    assert any_of.volume == pytest.approx(2 * BALL * 20**3 - lens, rel=0.03)


def test_the_average_of_equal_samples_is_the_sample() -> None:
    sample = PlacedSolid(ball(32), ObjectFrame(CENTER_MM, 40.0))
    np.testing.assert_allclose(average([sample] * 3).values, average([sample]).values, atol=1e-12)


def test_samples_of_very_different_size_fit_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sam3d_objects.reconstruct.field.MAX_GRID_CELLS", 64)
    frames = [ObjectFrame(CENTER_MM, size) for size in (1.0, 1.0, 5000.0)]
    field = average([PlacedSolid(ball(8), frame) for frame in frames])
    assert 48 <= max(field.values.shape) <= 64
    assert field.mesh(1 / 6).volume == pytest.approx(BALL * 2500**3, rel=0.05)


def test_an_empty_sample_counts_as_empty() -> None:
    frame = ObjectFrame(CENTER_MM, 40.0)
    samples = [PlacedSolid(ball(16), frame), PlacedSolid(np.zeros((16, 16, 16)), frame)]
    field = average(samples)
    assert field.values.max() == pytest.approx(0.5)
    with pytest.raises(ValueError, match=r"no voxel is above the level 0\.6"):
        field.mesh(0.6)


def test_a_low_threshold_is_not_cut_by_the_grid() -> None:
    side = np.abs(np.arange(24) - 11.5)
    cone = np.clip(1 - np.maximum.reduce(np.meshgrid(side, side, side, indexing="ij")) / 11, 0, None)
    cone[:5] *= 0.5  # faint on one side: above 0.03 and below 0.25
    sample = PlacedSolid(cone, ObjectFrame(CENTER_MM, 24.0))
    whole = PatientField(cone, sample.cell_to_mm()).mesh(0.03)
    assert average([sample], 0.03).mesh(0.03).volume == pytest.approx(whole.volume, rel=0.02)


def test_a_small_part_beside_the_organ_is_left_out() -> None:
    values = np.zeros((20, 20, 20))
    values[4:12, 4:12, 4:12] = 1
    alone = PatientField(values.copy(), np.eye(4)).mesh(0.5)
    values[15:18, 15:18, 15:18] = 1
    values[12, 8, 8] = 0.3  # below the threshold, beside the kept part: moves its surface there
    mesh = PatientField(values, np.eye(4)).mesh(0.5)
    assert mesh.is_watertight
    assert mesh.bounds[1].max() < 13
    assert alone.volume < mesh.volume < alone.volume + 1


def test_a_pair_of_organs_stays_a_pair() -> None:
    values = np.zeros((20, 8, 8))
    values[1:7, 1:7, 1:7] = 1
    one = PatientField(values.copy(), np.eye(4)).mesh(0.5)
    values[13:17, 1:7, 1:7] = 1  # two thirds of the other
    pair = PatientField(values, np.eye(4)).mesh(0.5)
    assert pair.is_watertight
    assert pair.volume == pytest.approx(one.volume * (1 + 4 / 6), rel=0.03)


def test_a_part_at_the_border_is_closed() -> None:
    mesh = PatientField(np.ones((4, 5, 6)), np.diag([2.0, 1, 1, 1])).mesh(0.5)
    assert mesh.is_watertight
    np.testing.assert_allclose(mesh.bounds, [[-1, -0.5, -0.5], [7, 4.5, 5.5]], atol=1e-4)
