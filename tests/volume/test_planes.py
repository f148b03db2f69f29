import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from sam3d_objects.arrays import FloatArray
from sam3d_objects.volume import (
    PLANES,
    SlicePlane,
    Volume,
    cut,
    inside_scan,
    oblique_plane,
    through_plane_axis,
    voxel_plane,
)

R, A, S = np.eye(3)
DISPLAY = {"axial": (R, A, S), "coronal": (R, S, -A), "sagittal": (A, S, R)}


def every_plane(volume: Volume) -> list[SlicePlane]:
    return [
        voxel_plane(volume, name, index)
        for name in PLANES
        for index in range(volume.shape[through_plane_axis(volume.affine, name)])
    ]


def test_pixels_are_voxel_centres_with_the_voxels_values(volume: Volume) -> None:
    """The frame contract: pixel -> mm comes from the affine alone, to 1e-4 mm, for every plane."""
    for plane in every_plane(volume):
        image = cut(volume, plane)
        indices = volume.mm_to_voxel(plane.grid_mm())
        nearest = np.rint(indices).astype(int)
        assert np.abs(volume.voxel_to_mm(nearest) - plane.grid_mm()).max() < 1e-9
        np.testing.assert_array_equal(image, volume.voxels[nearest[..., 0], nearest[..., 1], nearest[..., 2]])
        axis = through_plane_axis(volume.affine, plane.name)
        assert (nearest[..., axis] == plane.slice_index).all()


def test_pixel_to_mm_and_back(volume: Volume) -> None:
    pixels = np.random.default_rng(0).uniform(-300, 300, (100, 2))
    for plane in every_plane(volume):
        back = plane.mm_to_pixel(plane.pixel_to_mm(pixels))
        assert np.abs(back - np.column_stack([pixels, np.zeros(100)])).max() < 1e-9


def test_planes_cover_every_voxel_once(volume: Volume) -> None:
    for name in PLANES:
        slices = [cut(volume, plane, order=0).ravel() for plane in every_plane(volume) if plane.name == name]
        np.testing.assert_array_equal(np.sort(np.concatenate(slices)), np.arange(volume.voxels.size))
    assert {through_plane_axis(volume.affine, name) for name in PLANES} == {0, 1, 2}


def test_camera_is_a_rotation_that_looks_as_radiologists_do(volume: Volume) -> None:
    for plane in every_plane(volume):
        axes = plane.camera_axes
        assert np.abs(axes @ axes.T - np.eye(3)).max() < 1e-12
        assert np.linalg.det(axes) == pytest.approx(1)
        # Within the 32 degrees by which the oblique affines are turned.
        assert (np.sum(axes * DISPLAY[plane.name], axis=1) > 0.8).all()
        np.testing.assert_allclose(plane.affine[:3, 2], axes[2], atol=1e-12)
        # Rows go down and columns to the image's right.
        assert axes[1] @ (plane.pixel_to_mm([1, 0]) - plane.pixel_to_mm([0, 0])) < 0
        assert axes[0] @ (plane.pixel_to_mm([0, 1]) - plane.pixel_to_mm([0, 0])) < 0


@pytest.mark.parametrize("name", PLANES)
def test_camera_axes_of_a_straight_scan_are_exact(name: str) -> None:
    volume = Volume(np.zeros((4, 5, 6)), np.diag([-0.5, 0.7, 3.0, 1.0]))
    np.testing.assert_allclose(voxel_plane(volume, name, 0).camera_axes, DISPLAY[name], atol=1e-15)


@pytest.mark.parametrize("name", PLANES)
@pytest.mark.parametrize("mirrored", [False, True])
def test_camera_axes_of_an_oblique_scan_turn_with_it(name: str, mirrored: bool) -> None:
    turn = Rotation.from_euler("zxy", (25.0, -15.0, 10.0), degrees=True).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([-1.0 if mirrored else 1.0, 2.0, 3.0])
    plane = voxel_plane(Volume(np.zeros((4, 5, 6)), affine), name, 1)
    np.testing.assert_allclose(plane.camera_axes, np.array(DISPLAY[name]) @ turn.T, atol=1e-12)


def test_axial_display_worked_by_hand() -> None:
    volume = Volume(np.arange(24).reshape(2, 3, 4), np.diag([2.0, 3.0, 5.0, 1.0]))
    plane = voxel_plane(volume, "axial", 1)
    assert plane.shape == (3, 2)
    assert plane.pixel_spacing_mm == (3.0, 2.0)
    # Top left is the patient's right (largest i) and anterior (largest j).
    np.testing.assert_allclose(plane.pixel_to_mm([0, 0]), (2, 6, 5))
    np.testing.assert_array_equal(cut(volume, plane), volume.voxels[::-1, ::-1, 1].T)


def test_sagittal_and_coronal_display_worked_by_hand() -> None:
    volume = Volume(np.arange(24).reshape(2, 3, 4), np.diag([2.0, 3.0, 5.0, 1.0]))
    np.testing.assert_array_equal(
        cut(volume, voxel_plane(volume, "sagittal", 0)), volume.voxels[0, ::-1, ::-1].T
    )
    np.testing.assert_array_equal(
        cut(volume, voxel_plane(volume, "coronal", 2)), volume.voxels[::-1, 2, ::-1].T
    )


def test_pixel_directions_that_miss_a_right_angle_are_turned_alike() -> None:
    affine = np.eye(4)
    affine[:3, 0] = (0, -1, 0)
    affine[:3, 1] = (-np.cos(np.radians(0.4)), np.sin(np.radians(0.4)), 0)
    expected = Rotation.from_euler("z", 0.2, degrees=True).as_matrix()
    np.testing.assert_allclose(SlicePlane("axial", affine, (2, 2)).camera_axes, expected, atol=1e-12)


def test_window_may_leave_the_slice(volume: Volume) -> None:
    for plane in every_plane(volume):
        window = plane.window(-2, plane.shape[0] + 1, 1, 3)
        assert window.shape == (plane.shape[0] + 3, 2)
        np.testing.assert_allclose(window.grid_mm()[2:-1], plane.grid_mm()[:, 1:3], atol=1e-12)
        image = cut(volume, window, cval=-7)
        np.testing.assert_array_equal(image[2:-1], cut(volume, plane)[:, 1:3])
        assert (image[:2] == -7).all()
        assert (image[-1] == -7).all()
        np.testing.assert_array_equal(inside_scan(volume, window), image != -7)
    with pytest.raises(ValueError, match="at least one row"):
        plane.window(2, 2, 0, 1)


def test_cut_dtypes(volume: Volume) -> None:
    plane = voxel_plane(volume, "axial", 0)
    assert cut(volume, plane, order=0).dtype == np.int16
    assert cut(volume, plane, order=1).dtype == np.float32
    marked = volume.with_voxels(volume.voxels % 2 == 0)
    assert cut(marked, plane, order=0).dtype == bool
    with pytest.raises(ValueError, match="order 0"):
        cut(volume, plane, order=3)


def linear_field(points_mm: FloatArray) -> FloatArray:
    field: FloatArray = points_mm @ np.array([0.3, -1.7, 0.9]) + 4.0
    return field


def test_oblique_cut_of_a_linear_field_is_exact(affine: FloatArray) -> None:
    shape = (20, 22, 24)
    grid = Volume(np.zeros(shape), affine)
    volume = grid.with_voxels(linear_field(grid.voxel_to_mm(np.moveaxis(np.indices(shape), 0, -1))))
    turn = Rotation.from_euler("xyz", (31.0, 17.0, -44.0), degrees=True).as_matrix()
    center_mm = volume.voxel_to_mm([[9.5, 10.5, 11.5]])[0]
    plane = oblique_plane(center_mm, turn, (9, 7), (0.31, 0.47))
    assert inside_scan(volume, plane).all()
    np.testing.assert_allclose(cut(volume, plane), linear_field(plane.grid_mm()), rtol=1e-9)
    np.testing.assert_allclose(plane.camera_axes, turn, atol=1e-12)
    np.testing.assert_allclose(plane.pixel_to_mm([4, 3]), center_mm, atol=1e-9)
    np.testing.assert_allclose(plane.pixel_spacing_mm, (0.31, 0.47))


def test_a_plane_half_a_voxel_off_is_interpolated() -> None:
    volume = Volume(np.arange(8, dtype=np.float32).reshape(2, 2, 2) ** 2, np.eye(4))
    plane = oblique_plane((0.5, 0.5, 0.5), np.eye(3), (2, 2), 1.0)
    between = volume.voxels.mean(axis=2)[::-1, ::-1].T
    np.testing.assert_allclose(cut(volume, plane), between)


def test_outside_an_oblique_cut_is_cval_and_the_border_voxel_reaches_its_edge() -> None:
    volume = Volume(np.full((3, 3, 3), 5.0), np.eye(4))
    plane = oblique_plane((1.0, 1.0, 1.3), np.eye(3), (1, 9), 0.5)
    # Columns at x = 3, 2.5 ... -1; the scan spans -0.5 to 2.5.
    expected = [-1, 5, 5, 5, 5, 5, 5, 5, -1]
    np.testing.assert_array_equal(cut(volume, plane, cval=-1)[0], expected)
    np.testing.assert_array_equal(inside_scan(volume, plane)[0], np.array(expected) == 5)


def test_oblique_label_is_never_mixed() -> None:
    labels = np.random.default_rng(0).choice([0, 3, 200], (8, 8, 8)).astype(np.uint8)
    turn = Rotation.from_euler("x", 30, degrees=True).as_matrix()
    image = cut(Volume(labels, np.eye(4)), oblique_plane((3.5, 3.5, 3.5), turn, (9, 9), 0.5), order=0)
    assert set(np.unique(image)) == {0, 3, 200}
    assert image.dtype == np.uint8


def test_image_frame_counts_mm_from_the_first_pixel(volume: Volume) -> None:
    for plane in every_plane(volume):
        row_mm, col_mm = plane.pixel_spacing_mm
        frame = plane.image_frame
        assert np.linalg.det(frame[:3, :3]) == pytest.approx(1)
        first, right, away = plane.pixel_to_mm([0, 0]), plane.pixel_to_mm([0, 2]), plane.camera_axes[2]
        points = np.stack([first, right, first + 5 * away])
        expected = np.array([[0, 0, 0], [2 * col_mm, 0, 0], [0, 0, 5]])
        # The slightly sheared grid is off by half of its 0.23 degrees.
        np.testing.assert_allclose(
            points @ frame[:3, :3].T + frame[:3, 3], expected, atol=0.004 * col_mm + 1e-9
        )
        down = frame[:3, :3] @ (plane.pixel_to_mm([1, 0]) - first)
        np.testing.assert_allclose(down, [0, row_mm, 0], atol=0.002 * row_mm + 1e-9)


class TestBadPlanes:
    @pytest.mark.parametrize("index", [-1, 7])
    def test_index_outside_the_scan(self, index: int) -> None:
        with pytest.raises(ValueError, match=r"from 0 to 6 .*got"):
            voxel_plane(Volume(np.zeros((5, 6, 7)), np.eye(4)), "axial", index)

    def test_unknown_name_gives_the_nearest(self) -> None:
        with pytest.raises(ValueError, match="Did you mean 'sagittal'"):
            voxel_plane(Volume(np.zeros((5, 6, 7)), np.eye(4)), "saggital", 0)

    def test_sheared_scan_is_refused(self) -> None:
        affine = np.eye(4)
        affine[0, 1] = 0.02
        with pytest.raises(ValueError, match=r"1\.15; resample"):
            voxel_plane(Volume(np.zeros((5, 6, 7)), affine), "axial", 0)

    @pytest.mark.parametrize("axes", [np.diag([1.0, 1.0, -1.0]), 2 * np.eye(3), np.eye(2)])
    def test_camera_that_is_no_rotation(self, axes: FloatArray) -> None:
        with pytest.raises(ValueError, match="rotation"):
            oblique_plane((0, 0, 0), axes, (2, 2), 1.0)

    def test_pixel_of_no_size(self) -> None:
        with pytest.raises(ValueError, match="above zero"):
            oblique_plane((0, 0, 0), np.eye(3), (2, 2), 0.0)

    @pytest.mark.parametrize("column", [[0, 0, 0], [2, 0, 0], [np.nan, 0, 0]])
    def test_pixel_directions(self, column: list[float]) -> None:
        affine = np.eye(4)
        affine[:3, 1] = column
        with pytest.raises(ValueError, match="axial plane: expected"):
            SlicePlane("axial", affine, (2, 2))

    def test_affine_shape(self) -> None:
        with pytest.raises(ValueError, match="4x4"):
            SlicePlane("axial", np.eye(3), (2, 2))
