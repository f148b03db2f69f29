"""From a slice to the organ: the way through the frames is exact, hidden voxels stay hidden, seeds repeat."""

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from sam3d_objects.adapter import InferenceContract
from sam3d_objects.evaluation.compare import cut_mask
from sam3d_objects.mesh import Mesh, ObjectFrame, SliceCamera, inside, surface_distance
from sam3d_objects.reconstruct import Reconstructor
from sam3d_objects.volume import (
    PLANES,
    Intensity,
    SliceInput,
    SlicePlane,
    Volume,
    condition_image,
    oblique_plane,
    slice_input,
    voxel_plane,
)
from tests.mesh.shapes import SCANS, scan_affine
from tests.reconstruct.organ import CENTER_MM, RESOLUTION, TrueModel, organ, placed, shell, slice_of
from tests.training.small_model import small_model

CONTRACT = InferenceContract(field_of_view="mask_margin", modality="mr", steps=1, samples=2, fit=False)
CELL_MM = 52 / RESOLUTION


@pytest.fixture(scope="module")
def truth() -> Mesh:
    return organ()


def true_model(mesh: Mesh, slice: SliceInput, contract: InferenceContract = CONTRACT) -> TrueModel:
    """The model that gives `mesh`, as seen by the camera of this slice."""
    seen, _ = condition_image(slice, Intensity("mr"), contract.field_of_view, contract.margin_mm)
    solid = placed(mesh)
    return TrueModel(solid.field, solid.frame, SliceCamera.from_plane(seen.plane))


def assert_same_surface(found: Mesh, truth: Mesh, mean_mm: float = 0.15, most_mm: float = 0.7 * CELL_MM) -> None:
    """Both ways between the vertices of one and the surface of the other."""
    assert found.is_watertight
    for one, other in ((found, truth), (truth, found)):
        distance = surface_distance(one, other.vertices)
        assert distance.mean() < mean_mm and distance.max() < most_mm
    assert found.volume == pytest.approx(truth.volume, rel=0.03)


def scan_around(kind: str) -> np.ndarray:
    """An affine of a scan with the organ in its middle, for a grid of 100 x 90 x 24 voxels."""
    affine = scan_affine(kind)
    affine[:3, 3] += CENTER_MM - (affine[:3, :3] @ [50.0, 45.0, 12.0] + affine[:3, 3])
    return affine


@pytest.mark.parametrize("plane_name", PLANES)
@pytest.mark.parametrize("kind", SCANS)
def test_truth_comes_back_on_every_scan(truth: Mesh, kind: str, plane_name: str) -> None:
    affine, shape = scan_around(kind), (100, 90, 24)
    mask = Volume(inside(truth, affine, shape), affine)
    image = Volume(np.random.default_rng(0).normal(size=shape).astype(np.float32), affine)
    index = {"axial": 13, "coronal": 40, "sagittal": 58}[plane_name]
    slice = slice_input(image, mask, plane_name, index)
    assert slice.plane.slice_index == voxel_plane(mask, plane_name, index).slice_index == index
    assert_same_surface(Reconstructor(true_model(truth, slice), CONTRACT, "structure")(slice, 0), truth)


def turned_plane(seed: int) -> SlicePlane:
    axes = Rotation.random(rng=seed).as_matrix()
    return oblique_plane(CENTER_MM + 2 * axes[2], axes, (90, 80), (0.8, 1.1))


@pytest.mark.parametrize("field_of_view", ["scan", "mask_margin"])
@pytest.mark.parametrize("seed", range(3))
def test_truth_comes_back_from_any_plane(truth: Mesh, seed: int, field_of_view: str) -> None:
    contract = replace(CONTRACT, field_of_view=field_of_view, margin_mm=2.0)
    slice = slice_of(truth, turned_plane(seed))
    assert_same_surface(Reconstructor(true_model(truth, slice, contract), contract, "structure")(slice, 0), truth)


def test_the_fit_leaves_the_truth_alone(truth: Mesh) -> None:
    slice = slice_of(truth, turned_plane(1))
    fitted = Reconstructor(true_model(truth, slice), replace(CONTRACT, fit=True), "structure")(slice, 0)
    assert_same_surface(fitted, truth, mean_mm=0.5, most_mm=1.0 * CELL_MM)


def test_the_fit_mends_a_wrong_pose(truth: Mesh) -> None:
    slice = slice_of(truth, turned_plane(2))
    model = true_model(truth, slice)
    model.pose = model.pose._replace(
        translation=model.pose.translation + model.pose.translation.new_tensor([4.0, -3, 0])
    )
    off = [Reconstructor(model, replace(CONTRACT, fit=fit), "structure")(slice, 0) for fit in (False, True)]
    means = [surface_distance(truth, mesh.vertices).mean() for mesh in off]
    assert means[0] > 2.0 and means[1] < 0.5


def test_the_network_does_not_turn_the_organ(truth: Mesh) -> None:
    slice = slice_of(truth, turned_plane(0))
    model = true_model(truth, slice)
    expected = Reconstructor(model, CONTRACT, "structure")(slice, 0)
    model.pose = model.pose._replace(rotation=model.pose.rotation.mT)
    found = Reconstructor(model, CONTRACT, "structure")(slice, 0)
    np.testing.assert_allclose(found.vertices, expected.vertices, atol=1e-6)


def test_a_surface_model_gives_the_solid(truth: Mesh) -> None:
    slice = slice_of(truth, turned_plane(1))
    camera = SliceCamera.from_plane(condition_image(slice, Intensity("mr"), "mask_margin", 3.0)[0].plane)
    frame = ObjectFrame.from_points(truth.vertices)
    model = TrueModel(shell(truth, 64), frame, camera, "surface")
    mesh = Reconstructor(model, CONTRACT, "structure")(slice, 0)
    assert_same_surface(mesh, truth, mean_mm=0.25)


def test_nothing_solid_is_an_error(truth: Mesh) -> None:
    slice = slice_of(truth, turned_plane(0))
    solid = placed(truth)
    camera = SliceCamera.from_plane(slice.plane)
    kinds: list[Literal["solid", "surface"]] = ["solid", "surface"]
    for occupancy in kinds:
        model = TrueModel(np.zeros_like(solid.field), solid.frame, camera, occupancy)
        with pytest.raises(ValueError, match=r"no voxel is above the level 0\.5"):
            Reconstructor(model, replace(CONTRACT, fit=True), "structure")(slice, 0)


def test_a_pose_that_is_not_finite_is_an_error(truth: Mesh) -> None:
    slice = slice_of(truth, turned_plane(0))
    model = true_model(truth, slice)
    model.pose = model.pose._replace(translation=model.pose.translation * np.nan)
    with pytest.raises(ValueError, match="pose is not finite: centre"):
        Reconstructor(model, CONTRACT, "structure")(slice, 0)


def samples_of(slice: SliceInput, seed: int, contract: InferenceContract = CONTRACT) -> list[np.ndarray]:
    """All numbers of the samples that a small model with random weights draws."""
    placed_solids = Reconstructor(small_model(), contract, "structure").samples(slice, seed)
    assert len(placed_solids) == contract.samples
    return [part for one in placed_solids for part in (one.field, one.frame.center_mm, np.array(one.frame.size_mm))]


def same(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("fit", [False, True])
def test_voxels_beyond_the_margin_do_not_matter(truth: Mesh, fit: bool) -> None:
    plane = oblique_plane(CENTER_MM, np.eye(3), (70, 70), 1.2)
    slice = slice_of(truth, plane)
    contract = replace(CONTRACT, margin_mm=4.0, fit=fit)
    rows, columns = np.nonzero(slice.mask)
    at = np.stack(np.meshgrid(*(np.arange(n) for n in plane.shape), indexing="ij"), axis=-1)[:, :, None] * 1.2
    near_mm = np.linalg.norm(at - 1.2 * np.stack([rows, columns], axis=-1), axis=-1).min(axis=2)
    expected = samples_of(slice, 3, contract)
    beyond = SliceInput(np.where(near_mm > 4.01, 1e4, slice.image), slice.mask, plane, slice.valid)
    assert same(samples_of(beyond, 3, contract), expected)
    within = SliceInput(np.where(near_mm > 3.5, 1e4, slice.image), slice.mask, plane, slice.valid)
    assert not same(samples_of(within, 3, contract), expected)


def test_where_the_scan_ends_does_not_matter(truth: Mesh) -> None:
    whole = slice_of(truth, oblique_plane(CENTER_MM, np.eye(3), (70, 70), 1.2))
    rows, columns = np.nonzero(whole.mask)
    top, left = int(rows.min()) - 3, int(columns.min()) - 3  # 3.6 mm: the margin of 3 mm and no more
    window = whole.plane.window(top, 70, left, 70)
    kept = np.s_[top:, left:]
    cropped = SliceInput(whole.image[kept], whole.mask[kept], window, whole.valid[kept])
    for a, b in zip(samples_of(whole, 0), samples_of(cropped, 0), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


def test_seeds(truth: Mesh) -> None:
    slice = slice_of(truth, turned_plane(0))
    assert same(samples_of(slice, 5), samples_of(slice, 5))
    assert not same(samples_of(slice, 5), samples_of(slice, 6))
    one, two = samples_of(slice, 5)[:3], samples_of(slice, 5)[3:]
    assert not same(one, two), "two samples of one seed differ"


def test_dropping_the_pointmap(truth: Mesh) -> None:
    slice = slice_of(truth, turned_plane(0))
    assert not same(samples_of(slice, 5), samples_of(slice, 5, replace(CONTRACT, pointmap="drop")))


def test_field_and_mesh_agree(truth: Mesh) -> None:
    slice = slice_of(truth, turned_plane(0))
    reconstructor = Reconstructor(true_model(truth, slice), replace(CONTRACT, threshold=0.3), "structure")
    expected = reconstructor.field(slice, 0).mesh(0.3)
    np.testing.assert_array_equal(reconstructor(slice, 0).vertices, expected.vertices)
    assert expected.volume > truth.volume


def test_a_fitted_surface_passes_through_the_mask(truth: Mesh) -> None:
    slice = slice_of(truth, turned_plane(0))
    thin = Mesh((truth.vertices - CENTER_MM) * [1.0, 0.8, 0.8] + CENTER_MM, truth.faces)
    model = true_model(thin, slice)
    found = [Reconstructor(model, replace(CONTRACT, fit=fit), "structure")(slice, 0) for fit in (False, True)]
    wrong = [np.count_nonzero(cut_mask(mesh, slice.plane) != slice.mask) for mesh in found]
    assert wrong[0] > 0.1 * np.count_nonzero(slice.mask) > 10 * wrong[1]
