"""Surface: closed, outward, smooth and of the mask's volume, on grids of every kind."""

from pathlib import Path

import numpy as np
import pytest
import trimesh
from scipy import ndimage

from sam3d_objects.arrays import BoolArray, FloatArray
from sam3d_objects.mesh import Mesh, inside, signed_distance, surface_from_field, surface_from_mask
from sam3d_objects.volume import read_label
from tests.mesh.shapes import SCANS, ellipsoid, rotation, scan_affine

HIPPOCAMPUS_RADII = np.array([7.0, 20.0, 8.0])


def normal_error_degrees(mesh: Mesh, center: FloatArray, radii: FloatArray, turn: FloatArray) -> FloatArray:
    """(V,) angles between the mesh's normals and those of the analytic ellipsoid."""
    exact = (mesh.vertices - center) @ turn / radii**2 @ turn.T
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    cosine = (mesh.vertex_normals() * exact).sum(axis=1)
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


def closed_for_trimesh(mesh: Mesh) -> bool:
    """Whether trimesh, an independent judge, finds the mesh closed and consistently wound."""
    other = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    return bool(other.is_watertight and other.is_winding_consistent)


def test_an_ellipsoid_of_a_hippocampus_size_keeps_volume_and_place() -> None:
    mask, center = ellipsoid((36, 50, 35), np.eye(4), HIPPOCAMPUS_RADII, rotation())
    mesh = surface_from_mask(mask, np.eye(4))
    assert mesh.is_watertight and closed_for_trimesh(mesh)
    assert mesh.volume == pytest.approx(mask.sum(), rel=0.005)
    assert mesh.volume == pytest.approx(4 / 3 * np.pi * HIPPOCAMPUS_RADII.prod(), rel=0.02)
    scaled = np.linalg.norm((mesh.vertices - center) @ rotation() / HIPPOCAMPUS_RADII, axis=1)
    assert np.abs(scaled - 1).max() * HIPPOCAMPUS_RADII.min() < 0.5
    assert normal_error_degrees(mesh, center, HIPPOCAMPUS_RADII, rotation()).mean() < 8
    filled = inside(mesh, np.eye(4), mask.shape)
    assert 2 * (filled & mask).sum() / (filled.sum() + mask.sum()) > 0.985


@pytest.mark.parametrize("kind", SCANS)
def test_thick_slices_do_not_become_stairs(kind: str) -> None:
    affine = scan_affine(kind)  # 0.7 x 0.9 x 3 mm
    mask, center = ellipsoid((60, 50, 17), affine, np.array([9.0, 18.0, 11.0]), rotation())
    mesh = surface_from_mask(mask, affine)
    assert mesh.is_watertight and mesh.volume > 0
    assert mesh.volume == pytest.approx(mask.sum() * 0.7 * 0.9 * 3, rel=0.01)
    error = normal_error_degrees(mesh, center, np.array([9.0, 18.0, 11.0]), rotation())
    plain = surface_from_field(ndimage.gaussian_filter(mask.astype(np.float32), 0.7), 0.5, affine)
    stairs = normal_error_degrees(plain, center, np.array([9.0, 18.0, 11.0]), rotation())
    assert error.mean() < 9
    assert error.mean() < 0.75 * stairs.mean()


def test_more_smoothing_is_smoother_and_keeps_the_volume() -> None:
    mask, center = ellipsoid((36, 50, 35), np.eye(4), HIPPOCAMPUS_RADII, rotation())
    errors = []
    for smooth_mm in (0.0, 0.7, 1.4):
        mesh = surface_from_mask(mask, np.eye(4), smooth_mm)
        assert mesh.volume == pytest.approx(mask.sum(), rel=0.02)
        errors.append(normal_error_degrees(mesh, center, HIPPOCAMPUS_RADII, rotation()).mean())
    assert errors[0] > 1.5 * errors[1] > 2 * errors[2]


@pytest.mark.parametrize(
    "voxels",
    [
        pytest.param(np.ones((4, 5, 6), dtype=bool), id="the whole array"),
        pytest.param(np.pad(np.ones((1, 1, 1), dtype=bool), 2), id="one voxel"),
        pytest.param(np.arange(5)[:, None, None] + np.zeros((1, 6, 6)) == 4, id="a sheet on the border"),
        pytest.param(np.random.default_rng(0).random((9, 8, 7)) > 0.5, id="noise"),
    ],
)
@pytest.mark.parametrize("kind", SCANS)
def test_masks_at_the_border_and_of_one_voxel_are_closed(voxels: BoolArray, kind: str) -> None:
    affine = scan_affine(kind)
    mesh = surface_from_mask(voxels, affine)
    assert mesh.is_watertight
    assert mesh.volume == pytest.approx(voxels.sum() * abs(np.linalg.det(affine[:3, :3])), rel=0.03)


def test_a_field_is_cut_at_its_level_and_closed_half_a_voxel_beyond_the_border() -> None:
    whole = surface_from_field(np.full((3, 4, 5), 2.0), 1.0, np.eye(4))
    np.testing.assert_allclose(whole.bounds, [[-0.5, -0.5, -0.5], [2.5, 3.5, 4.5]], atol=1e-6)
    ramp = np.broadcast_to(10.0 - np.arange(8.0)[:, None, None], (8, 4, 4))
    half = surface_from_field(ramp, 5.75, np.diag([2.0, 1, 1, 1]))
    assert half.bounds[1, 0] == pytest.approx(8.5)
    assert half.is_watertight


@pytest.mark.parametrize("seed", range(4))
def test_values_on_the_level_leave_no_hole(seed: int) -> None:
    field = np.random.default_rng(seed).integers(0, 3, (9, 10, 8)).astype(np.float32)
    mesh = surface_from_field(field, 1.0, np.diag([1.0, -1.0, 1.0, 1.0]))
    assert mesh.is_watertight and mesh.volume > 0
    np.testing.assert_array_equal(inside(mesh, np.diag([1.0, -1.0, 1.0, 1.0]), field.shape), field > 1)


def test_nothing_to_extract_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"no voxel is above the level 3 \(largest value 2\)"):
        surface_from_field(np.full((3, 3, 3), 2.0), 3.0, np.eye(4))
    with pytest.raises(ValueError, match="finite field"):
        surface_from_field(np.full((3, 3, 3), np.nan), 0.0, np.eye(4))
    with pytest.raises(ValueError, match="got an empty one"):
        surface_from_mask(np.zeros((3, 3, 3), dtype=bool), np.eye(4))
    with pytest.raises(ValueError, match=r"shape \(3, 3\)"):
        surface_from_mask(np.ones((3, 3), dtype=bool), np.eye(4))
    with pytest.raises(ValueError, match="smooth_mm"):
        surface_from_mask(np.ones((3, 3, 3), dtype=bool), np.eye(4), -1.0)
    with pytest.raises(ValueError, match="invertible 4x4"):
        surface_from_mask(np.ones((3, 3, 3), dtype=bool), np.zeros((4, 4)))


def test_a_real_hippocampus_keeps_its_volume_and_its_voxels(shared_data: Path) -> None:
    path = sorted((shared_data / "Task04_Hippocampus" / "labelsTr").glob("hippocampus_*.nii.gz"))[0]
    label = read_label(path)
    mask = label.voxels > 0
    mesh = surface_from_mask(mask, label.affine)
    assert mesh.is_watertight and closed_for_trimesh(mesh)
    assert mesh.volume == pytest.approx(mask.sum() * abs(np.linalg.det(label.affine[:3, :3])), rel=0.02)
    filled = inside(mesh, label.affine, mask.shape)
    assert 2 * (filled & mask).sum() / (filled.sum() + mask.sum()) > 0.98
    # Single voxels that stick out are smoothed away; nothing else of the organ is left outside.
    outside_mm = signed_distance(mesh, label.voxel_to_mm(np.argwhere(mask)))
    assert outside_mm.max() < 1.5 and (outside_mm > 0.5).mean() < 0.005
