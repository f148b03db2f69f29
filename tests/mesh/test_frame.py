"""Frames: patient -> object -> camera -> patient is the identity, and each axis is the one that is meant."""

import numpy as np
import pytest

from sam3d_objects.arrays import FloatArray
from sam3d_objects.mesh import ObjectFrame, SliceCamera, object_grid_affine, pointmap, surface_voxels
from sam3d_objects.volume import PLANES, SlicePlane, Volume, oblique_plane, voxel_plane
from tests.mesh.shapes import SCANS, box, rotation, scan_affine

# Normalisation of the release's pose tokens (pipeline configuration of SAM 3D Objects).
MEAN_6D = np.array([-0.0636608, 0.0084382, 0.0001708, 0.0007127, -0.0030917, 0.5166094])
STD_6D = np.array([0.6656972, 0.6787013, 0.3034501, 0.4394505, 0.3981797, 0.6176287])


def planes_of(kind: str) -> list[SlicePlane]:
    """The three voxel planes of a scan and one oblique plane."""
    volume = Volume(np.zeros((20, 24, 16), dtype=np.float32), scan_affine(kind))
    center = volume.voxel_to_mm(np.array([[9.0, 11.0, 7.0]]))[0]
    return [voxel_plane(volume, name, 5) for name in PLANES] + [
        oblique_plane(center, rotation(), (30, 40), 0.8)
    ]


@pytest.fixture
def points_mm() -> FloatArray:
    """(200, 3) points about a scan, up to 200 mm from the origin."""
    return np.random.default_rng(0).uniform(-200, 200, (200, 3))


@pytest.mark.parametrize("kind", SCANS)
def test_patient_object_camera_patient_is_the_identity(kind: str, points_mm: FloatArray) -> None:
    frame = ObjectFrame.from_points(points_mm)
    for plane in planes_of(kind):
        camera = SliceCamera.from_plane(plane)
        in_object = frame.to_object(points_mm)
        center_camera = camera.to_camera(frame.center_mm)
        # The pose as the model states it: rotation, size and centre in the camera, nothing else.
        in_camera = in_object @ camera.object_rotation().T * frame.size_mm + center_camera
        np.testing.assert_allclose(in_camera, camera.to_camera(points_mm), atol=1e-9)
        np.testing.assert_allclose(camera.to_patient(in_camera), points_mm, atol=1e-9)
        np.testing.assert_allclose(frame.to_patient(in_object), points_mm, atol=1e-9)


@pytest.mark.parametrize("kind", SCANS)
def test_pixels_lie_on_the_cameras_plane_where_the_display_shows_them(kind: str) -> None:
    for plane in planes_of(kind):
        camera = SliceCamera.from_plane(plane)
        points = camera.to_camera(plane.grid_mm())
        row_mm, col_mm = plane.pixel_spacing_mm
        rows, cols = plane.shape
        # +x is image left and +y image up, so both fall as col and row grow; the origin is the middle.
        np.testing.assert_allclose(
            points[..., 0], ((cols - 1) / 2 - np.arange(cols)) * col_mm + 0 * points[..., 0]
        )
        np.testing.assert_allclose(
            points[..., 1].T, ((rows - 1) / 2 - np.arange(rows)) * row_mm + 0 * points[..., 1].T
        )
        np.testing.assert_allclose(points[..., 2], 0, atol=1e-9)
        np.testing.assert_allclose(camera.to_patient(points), plane.grid_mm(), atol=1e-9)


def test_rotations_of_the_display_planes_are_those_worked_by_hand() -> None:
    axial, coronal, sagittal, _ = (
        SliceCamera.from_plane(p).object_rotation() for p in planes_of("left-handed")
    )
    # Object axes are L, P, S; camera axes (x, y, z): axial (R, A, S), coronal (R, S, P), sagittal (A, S, R).
    np.testing.assert_allclose(axial, [[-1, 0, 0], [0, -1, 0], [0, 0, 1]], atol=1e-12)
    np.testing.assert_allclose(coronal, [[-1, 0, 0], [0, 0, 1], [0, 1, 0]], atol=1e-12)
    np.testing.assert_allclose(sagittal, [[0, -1, 0], [0, 0, 1], [-1, 0, 0]], atol=1e-12)


@pytest.mark.parametrize("kind", SCANS)
def test_object_rotation_is_a_rotation_whose_rows_are_the_releases_6d(kind: str) -> None:
    for plane in planes_of(kind):
        rotation_columns = SliceCamera.from_plane(plane).object_rotation()
        np.testing.assert_allclose(rotation_columns @ rotation_columns.T, np.eye(3), atol=1e-9)
        assert np.linalg.det(rotation_columns) == pytest.approx(1)
        row_convention = rotation_columns.T  # x_camera = x_object @ row_convention
        six = np.concatenate([row_convention[:, 0], row_convention[:, 1]])
        assert plane.name == "oblique" or np.abs((six - MEAN_6D) / STD_6D).max() < 2.6
    sagittal = SliceCamera.from_plane(planes_of(kind)[2]).object_rotation()
    mistaken = np.concatenate([sagittal[:, 0], sagittal[:, 1]])
    assert np.abs((mistaken - MEAN_6D) / STD_6D).max() > 2.9


def test_the_longest_side_is_one_and_the_axes_are_the_models() -> None:
    low, high = np.array([10.0, -40.0, 5.0]), np.array([30.0, 40.0, 55.0])
    frame = ObjectFrame.from_points(np.stack([low, high]))
    assert frame.size_mm == 80
    np.testing.assert_array_equal(frame.center_mm, [20, 0, 30])
    np.testing.assert_allclose(
        frame.to_object([20, 40, 30]), [0, -0.5, 0]
    )  # anterior is the model's front, -y
    np.testing.assert_allclose(frame.to_object([20, 0, 55]), [0, 0, 0.3125])  # superior is its up, +z
    np.testing.assert_allclose(frame.to_object([30, 0, 30]), [-0.125, 0, 0])  # the patient's right is -x
    corners = np.array([[0.1, 0.2, 0.3, 1.0], [-0.5, 0.5, -0.5, 1.0]])
    np.testing.assert_allclose((corners @ frame.object_affine().T)[:, :3], frame.to_patient(corners[:, :3]))


def test_the_far_face_of_the_unit_box_falls_into_the_last_voxel() -> None:
    vertices = box((0, 0, 0), (50, 20, 10)).vertices
    unit = box((0, 0, 0), (50, 20, 10)).transformed(
        np.linalg.inv(ObjectFrame.from_points(vertices).object_affine())
    )
    voxels = surface_voxels(unit, 64)
    assert voxels[:, 0].min() == 0 and voxels[:, 0].max() == 63
    np.testing.assert_allclose(object_grid_affine(64)[:3, 3], 0.5 / 64 - 0.5)


def test_a_slightly_sheared_scan_still_gives_a_rotation() -> None:
    affine = scan_affine("oblique left-handed")
    affine[:3, 1] += 0.004 * affine[:3, 0]
    volume = Volume(np.zeros((8, 9, 10), dtype=np.float32), affine)
    for name in PLANES:
        turned = SliceCamera.from_plane(voxel_plane(volume, name, 3)).object_rotation()
        np.testing.assert_allclose(turned @ turned.T, np.eye(3), atol=1e-12)


def test_pointmap_is_float32_millimetres_with_nan_outside() -> None:
    plane = planes_of("oblique")[0]
    valid = np.ones(plane.shape, dtype=bool)
    valid[0, :3] = False
    points = pointmap(plane, SliceCamera.from_plane(plane), valid)
    assert points.dtype == np.float32 and points.shape == (*plane.shape, 3)
    assert np.isnan(points[0, :3]).all() and np.isfinite(points[valid]).all()
    step = np.linalg.norm(points[5, 6] - points[5, 5])
    assert step == pytest.approx(plane.pixel_spacing_mm[1], abs=1e-5)
    with pytest.raises(ValueError, match="expected valid of shape"):
        pointmap(plane, SliceCamera.from_plane(plane), valid[1:])


def test_bad_frames_are_refused() -> None:
    with pytest.raises(ValueError, match="size above 0"):
        ObjectFrame.from_points(np.ones((5, 3)))
    with pytest.raises(ValueError, match="N > 0"):
        ObjectFrame.from_points(np.zeros((0, 3)))
    with pytest.raises(ValueError, match="finite centre"):
        ObjectFrame(np.array([0, np.nan, 0]), 1.0)
    with pytest.raises(ValueError, match="rotation matrix"):
        SliceCamera(np.diag([1.0, 1.0, -1.0]), np.zeros(3))
    with pytest.raises(ValueError, match="finite origin"):
        SliceCamera(np.eye(3), np.zeros(2))
