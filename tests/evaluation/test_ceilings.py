"""Ceilings are given the truth, lose what they say that they lose, and cannot be taken for methods."""

import numpy as np
import pytest

from sam3d_objects.arrays import FloatArray
from sam3d_objects.evaluation import METRICS, Material, Truth, compare
from sam3d_objects.evaluation.ceilings import CEILINGS, ENCODE, Ceiling, answer, encode_ceiling, is_ceiling, on_grid
from sam3d_objects.evaluation.predictor import mesh_of
from sam3d_objects.mesh import Mesh, solid_from_shell
from sam3d_objects.volume import SliceInput, Volume
from tests.evaluation.solids import ball_mesh, ball_truth, middle_slice

RADIUS_MM = 10.0


@pytest.fixture(scope="module")
def material() -> Material:
    truth = ball_truth(RADIUS_MM)
    return Material(middle_slice(truth), truth, Volume(np.zeros(truth.label.shape, np.float32), truth.label.affine))


def radii(mesh: Mesh) -> FloatArray:
    """Distance of each vertex to the ball's centre, mm."""
    return np.asarray(np.linalg.norm(mesh.vertices, axis=1))


def test_the_true_mesh_is_handed_through(material: Material) -> None:
    mesh = mesh_of(answer(CEILINGS["ceiling_mesh"], material, 0))
    assert mesh is material.truth.mesh
    found = compare(mesh, material.truth, material.slice)
    assert METRICS["dice"].of(found) > 0.98 and METRICS["hd95_mm"].of(found) <= 1


@pytest.mark.parametrize(("name", "resolution"), [("ceiling_grid64", 64), ("ceiling_grid32", 32)])
def test_a_grid_keeps_the_surface_to_half_a_voxel(material: Material, name: str, resolution: int) -> None:
    mesh = mesh_of(answer(CEILINGS[name], material, 0))
    voxel_mm = 2 * RADIUS_MM / resolution
    assert mesh.is_watertight
    assert np.abs(radii(mesh) - RADIUS_MM).max() < voxel_mm / 2
    # It is the grid that is judged, not the mesh handed through.
    assert len(mesh.faces) != len(material.truth.mesh.faces)
    assert mesh.volume == pytest.approx(material.truth.mesh.volume, rel=3 * voxel_mm / RADIUS_MM)


def test_a_coarse_grid_loses_more(material: Material) -> None:
    errors = [np.abs(radii(on_grid(material.truth, resolution)) - RADIUS_MM).mean() for resolution in (64, 32, 8)]
    assert errors[0] < errors[1] < errors[2]


def test_a_model_that_gives_everything_back_is_the_grid(material: Material) -> None:
    asked: list[FloatArray] = []

    def round_trip(grid: FloatArray) -> FloatArray:
        asked.append(grid)
        return grid

    mesh = mesh_of(answer(encode_ceiling(round_trip, 32, "solid"), material, 0))
    assert asked[0].shape == (32, 32, 32) and asked[0].dtype == np.float32
    assert np.array_equal(mesh.vertices, on_grid(material.truth, 32).vertices)


def test_a_model_of_surface_voxels_is_given_the_surface(material: Material) -> None:
    def round_trip(grid: FloatArray) -> FloatArray:
        assert set(np.unique(grid)) == {0.0, 1.0} and grid[16, 16, 16] == 0, "a shell"
        return solid_from_shell(grid)

    mesh = mesh_of(answer(encode_ceiling(round_trip, 32, "surface"), material, 0))
    assert radii(mesh).mean() == pytest.approx(RADIUS_MM, abs=RADIUS_MM / 32)


def test_specks_of_a_decoder_are_cut_off_as_reconstructions_are(material: Material) -> None:
    def with_a_speck(grid: FloatArray) -> FloatArray:
        speckled = grid.copy()
        speckled[0, 0, 0] = 1.0
        return speckled

    mesh = mesh_of(answer(encode_ceiling(with_a_speck, 32, "solid"), material, 0))
    assert radii(mesh).max() < RADIUS_MM + 1


def test_a_model_that_gives_nothing_back_has_no_surface(material: Material) -> None:
    with pytest.raises(ValueError, match="no surface"):
        answer(encode_ceiling(np.zeros_like, 32, "solid"), material, 0)


def test_an_organ_is_made_once_for_its_slices(material: Material) -> None:
    made: list[Truth] = []

    def make(truth: Truth) -> Mesh:
        made.append(truth)
        return truth.mesh

    ceiling = Ceiling("counted", make)
    other = ball_truth(8.0)
    for truth in (material.truth, material.truth, other, material.truth):
        assert ceiling.mesh(truth) is truth.mesh
    assert made == [material.truth, other, material.truth]


def test_a_predictor_is_shown_the_slice_alone(material: Material) -> None:
    seen: list[tuple[SliceInput, int]] = []

    def predict(slice: SliceInput, seed: int) -> Mesh:
        seen.append((slice, seed))
        return ball_mesh(3.0, points=12)

    answer(predict, material, 7)
    assert seen == [(material.slice, 7)]


def test_ceilings_are_told_by_their_names_and_are_no_predictors() -> None:
    assert all(is_ceiling(name) for name in (*CEILINGS, ENCODE))
    assert not any(is_ceiling(name) for name in ("adapted", "merged", "extrusion", "direct"))
    assert not any(callable(ceiling) for ceiling in CEILINGS.values())
