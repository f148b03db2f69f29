import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from sam3d_objects.arrays import FloatArray
from sam3d_objects.volume import (
    PLANES,
    SliceInput,
    Volume,
    list_slices,
    read_slice,
    slice_input,
    slice_stem,
    through_plane_axis,
    write_nifti,
)

INDEX = 2


def scan_and_mask(affine: FloatArray) -> tuple[Volume, Volume]:
    voxels = np.random.default_rng(0).integers(0, 200, (5, 6, 7)).astype(np.int16)
    return Volume(voxels, affine), Volume(voxels > 60, affine)


def assert_same_slice(found: SliceInput, expected: SliceInput, tolerance_mm: float) -> None:
    np.testing.assert_array_equal(found.image, expected.image)
    np.testing.assert_array_equal(found.mask, expected.mask)
    assert found.valid.all()
    assert found.plane.name == expected.plane.name
    assert np.abs(found.plane.grid_mm() - expected.plane.grid_mm()).max() < tolerance_mm


def one_slice(volume: Volume, name: str) -> Volume:
    axis = through_plane_axis(volume.affine, name)
    start = np.zeros(3)
    start[axis] = INDEX
    affine = volume.affine.copy()
    affine[:3, 3] = volume.voxel_to_mm([start])[0]
    return Volume(np.take(volume.voxels, [INDEX], axis=axis), affine)


@pytest.mark.parametrize("name", PLANES)
@pytest.mark.parametrize("suffix", [".nii.gz", ".nii"])
def test_nifti_slice_is_the_slice_of_its_volume(
    affine: FloatArray, name: str, suffix: str, tmp_path: Path
) -> None:
    image, mask = scan_and_mask(affine)
    write_nifti(tmp_path / f"a{suffix}", one_slice(image, name))
    write_nifti(tmp_path / "a_mask.nii.gz", one_slice(mask, name))
    # NIfTI stores float32.
    assert_same_slice(
        read_slice(tmp_path / f"a{suffix}"), slice_input(image, mask, name, INDEX), tolerance_mm=1e-4
    )


@pytest.mark.parametrize("name", PLANES)
@pytest.mark.parametrize("transposed", [False, True])
def test_npz_slice_is_the_slice_of_its_volume_however_its_pixels_run(
    affine: FloatArray, name: str, transposed: bool, tmp_path: Path
) -> None:
    image, mask = scan_and_mask(affine)
    axis = through_plane_axis(affine, name)
    along = [a for a in range(3) if a != axis]
    if transposed:
        along.reverse()
    pixel_to_mm = one_slice(image, name).affine[:, [*along, axis, 3]].copy()
    pixel_to_mm[:3, 2] = (7.0, 0.0, 0.0)
    arrays = {key: np.take(v.voxels, INDEX, axis=axis) for key, v in (("image", image), ("mask", mask))}
    if transposed:
        arrays = {key: array.T for key, array in arrays.items()}
    np.savez(tmp_path / "a.npz", **arrays, affine=pixel_to_mm)
    assert_same_slice(
        read_slice(tmp_path / "a.npz"), slice_input(image, mask, name, INDEX), tolerance_mm=1e-9
    )


def write_png(folder: Path, image: np.ndarray, mask: np.ndarray) -> Path:
    Image.fromarray(image).save(folder / "a.png")
    Image.fromarray(mask).save(folder / "a_mask.png")
    return folder / "a.png"


GREY = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
MARKED = (GREY > 100).astype(np.uint8) * 255


@pytest.mark.parametrize(
    ("name", "down", "right"),
    [
        ("axial", (0, -1, 0), (-1, 0, 0)),
        ("coronal", (0, 0, -1), (-1, 0, 0)),
        ("sagittal", (0, 0, -1), (0, -1, 0)),
    ],
)
def test_png_slice(name: str, down: tuple[int, ...], right: tuple[int, ...], tmp_path: Path) -> None:
    given = read_slice(write_png(tmp_path, GREY, MARKED), spacing_mm=(2.0, 0.5), plane=name)
    np.testing.assert_array_equal(given.image, GREY)
    np.testing.assert_array_equal(given.mask, GREY > 100)
    assert given.plane.name == name
    np.testing.assert_allclose(given.plane.pixel_to_mm([0, 0]), (0, 0, 0))
    np.testing.assert_allclose(given.plane.pixel_to_mm([1, 0]), 2.0 * np.array(down))
    np.testing.assert_allclose(given.plane.pixel_to_mm([0, 1]), 0.5 * np.array(right))
    frame = given.plane.image_frame
    np.testing.assert_allclose(frame[:3, :3] @ given.plane.pixel_to_mm([2, 3]) + frame[:3, 3], (1.5, 4, 0))


def test_png_camera_is_that_of_a_straight_scan(tmp_path: Path) -> None:
    image, mask = scan_and_mask(np.diag([1.5, 1.5, 1.5, 1.0]))
    for name in PLANES:
        expected = slice_input(image, mask, name, INDEX)
        path = write_png(tmp_path, expected.image.astype(np.uint8), expected.mask.astype(np.uint8))
        found = read_slice(path, spacing_mm=1.5, plane=name)
        np.testing.assert_array_equal(found.image, expected.image)
        np.testing.assert_array_equal(found.mask, expected.mask)
        np.testing.assert_allclose(found.plane.camera_axes, expected.plane.camera_axes)
        np.testing.assert_allclose(found.plane.affine[:3, :3], expected.plane.affine[:3, :3])


def test_what_is_transparent_in_a_png_mask_is_not_marked(tmp_path: Path) -> None:
    path = write_png(tmp_path, GREY, MARKED)
    marked = np.full((*MARKED.shape, 4), 255, np.uint8)  # a white picture, rubbed out around the organ
    marked[..., 3] = np.where(MARKED > 0, 255, 0)
    Image.fromarray(marked).save(tmp_path / "a_mask.png")
    np.testing.assert_array_equal(read_slice(path, 1.0, "axial").mask, MARKED > 0)


def test_png_of_other_depths(tmp_path: Path) -> None:
    colour = np.stack([GREY] * 3, axis=-1)
    np.testing.assert_array_equal(read_slice(write_png(tmp_path, colour, MARKED), 1.0, "axial").image, GREY)
    deep = GREY.astype(np.uint16) * 200
    np.testing.assert_array_equal(read_slice(write_png(tmp_path, deep, MARKED), 1.0, "axial").image, deep)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_png_levels_stand_for_a_window(tmp_path: Path, dtype: type) -> None:
    white = np.iinfo(dtype).max
    levels: np.ndarray = np.array([[0, white]], dtype=dtype)
    path = write_png(tmp_path, levels, np.array([[255, 0]], np.uint8))
    image = read_slice(path, 1.0, "axial", window_hu=(-160.0, 240.0)).image
    np.testing.assert_allclose(image, [[-160, 240]])


class TestBadPng:
    def test_spacing_and_plane_are_needed(self, tmp_path: Path) -> None:
        path = write_png(tmp_path, GREY, MARKED)
        for spacing_mm, plane in ((None, None), (1.0, None), (None, "axial")):
            with pytest.raises(ValueError, match=r"a\.png: .*spacing_mm and plane"):
                read_slice(path, spacing_mm, plane)

    @pytest.mark.parametrize("spacing_mm", [0.0, (1.0, -1.0), (1.0, 2.0, 3.0), np.nan])
    def test_spacing(self, tmp_path: Path, spacing_mm: float) -> None:
        with pytest.raises(ValueError, match=r"a\.png: expected spacing_mm"):
            read_slice(write_png(tmp_path, GREY, MARKED), spacing_mm, "axial")

    def test_plane(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"a\.png: .*Did you mean 'coronal'"):
            read_slice(write_png(tmp_path, GREY, MARKED), 1.0, "coronel")

    def test_shapes(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"a\.png: .*\(3, 4\).*\(3, 3\)"):
            read_slice(write_png(tmp_path, GREY, MARKED[:, :3]), 1.0, "axial")

    def test_empty_mask(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"a\.png: axial slice 0: the mask is empty"):
            read_slice(write_png(tmp_path, GREY, MARKED * 0), 1.0, "axial")

    def test_cut_anywhere(self, tmp_path: Path) -> None:
        noise = np.random.default_rng(0).integers(0, 255, (30, 30)).astype(np.uint8)
        path = write_png(tmp_path, noise, np.ones_like(noise))
        raw = path.read_bytes()
        for length in (0, 5, 20, 40, 60, len(raw) // 2):
            path.write_bytes(raw[:length])
            with pytest.raises(ValueError, match=r"a\.png: expected a whole PNG"):
                read_slice(path, 1.0, "axial")


class TestBadNpz:
    def save(self, folder: Path, **changes: np.ndarray | None) -> Path:
        good: dict[str, np.ndarray | None] = {"image": GREY, "mask": MARKED, "affine": np.eye(4)}
        arrays = {key: value for key, value in (good | changes).items() if value is not None}
        np.savez(folder / "a.npz", allow_pickle=True, **arrays)
        return folder / "a.npz"

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"mask": None}, "found image, affine"),
            ({"mask": MARKED[:2]}, r"\(3, 4\) and \(2, 4\)"),
            ({"image": np.zeros((3, 4, 3)), "mask": np.zeros((3, 4, 3))}, "one shape"),
            ({"affine": np.eye(3)}, "4x4"),
            ({"affine": np.full((4, 4), np.nan)}, "finite real numbers in affine"),
            ({"affine": np.diag([0.0, 1.0, 1.0, 1.0])}, "pixel directions"),
            ({"image": np.full((3, 4), np.nan)}, "finite real numbers in image"),
            ({"image": np.full((3, 4), "x")}, "finite real numbers in image"),
            ({"mask": MARKED * 0}, "mask is empty"),
            ({"image": np.array([[None] * 4] * 3)}, "allow_pickle=False"),
        ],
    )
    def test_arrays(self, tmp_path: Path, changes: dict[str, np.ndarray | None], message: str) -> None:
        with pytest.raises(ValueError, match=rf"a\.npz: .*{message}"):
            read_slice(self.save(tmp_path, **changes))

    def test_sheared_pixels(self, tmp_path: Path) -> None:
        affine = np.eye(4)
        affine[0, 1] = 0.2
        with pytest.raises(ValueError, match=r"a\.npz: .*orthogonal"):
            read_slice(self.save(tmp_path, affine=affine))

    def test_damaged(self, tmp_path: Path) -> None:
        path = self.save(tmp_path)
        raw = path.read_bytes()
        for damaged in (b"", raw[:10], raw[: len(raw) // 2], b"not an archive"):
            path.write_bytes(damaged)
            with pytest.raises(ValueError, match=r"a\.npz: "):
                read_slice(path)

    def test_a_lone_array(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", GREY)
        shutil.move(tmp_path / "a.npy", tmp_path / "a.npz")
        with pytest.raises(ValueError, match=r"a\.npz: .*found none of them"):
            read_slice(tmp_path / "a.npz")


class TestBadNifti:
    def test_no_mask(self, tmp_path: Path) -> None:
        write_nifti(tmp_path / "a.nii.gz", Volume(np.ones((3, 4, 1)), np.eye(4)))
        with pytest.raises(ValueError, match=r"a\.nii\.gz: expected its mask beside it, a_mask\.nii\.gz"):
            read_slice(tmp_path / "a.nii.gz")

    @pytest.mark.parametrize("shape", [(3, 4, 5), (3, 1, 1)])
    def test_not_one_slice(self, tmp_path: Path, shape: tuple[int, int, int]) -> None:
        for stem in ("a", "a_mask"):
            write_nifti(tmp_path / f"{stem}.nii.gz", Volume(np.ones(shape, np.uint8), np.eye(4)))
        with pytest.raises(ValueError, match=r"a\.nii\.gz: expected one slice"):
            read_slice(tmp_path / "a.nii.gz")

    def test_mask_on_another_grid(self, tmp_path: Path) -> None:
        write_nifti(tmp_path / "a.nii.gz", Volume(np.ones((3, 4, 1), np.uint8), np.eye(4)))
        write_nifti(
            tmp_path / "a_mask.nii.gz",
            Volume(np.ones((3, 4, 1), np.uint8), 2 * np.eye(4) - np.diag([0, 0, 0, 1])),
        )
        with pytest.raises(ValueError, match=r"a\.nii\.gz and a_mask\.nii\.gz: .*one affine"):
            read_slice(tmp_path / "a.nii.gz")

    def test_two_dimensional_file(self, tmp_path: Path) -> None:
        for stem in ("a", "a_mask"):
            nib.Nifti1Image(np.ones((3, 4), np.uint8), np.eye(4)).to_filename(tmp_path / f"{stem}.nii.gz")
        assert read_slice(tmp_path / "a.nii.gz").plane.name == "axial"


class TestFolder:
    def test_masks_are_no_slices(self, tmp_path: Path) -> None:
        for name in ("b.png", "b_mask.png", "a.nii.gz", "a_mask.nii.gz", "c_mask.npz", "notes.txt", "D.PNG"):
            (tmp_path / name).touch()
        names = [path.name for path in list_slices(tmp_path)]
        assert names == ["D.PNG", "a.nii.gz", "b.png", "c_mask.npz"]
        assert [slice_stem(name) for name in names] == ["D", "a", "b", "c_mask"]

    def test_one_stem_twice(self, tmp_path: Path) -> None:
        for name in ("a.png", "a.npz", "b.npz"):
            (tmp_path / name).touch()
        with pytest.raises(ValueError, match="several of a;"):
            list_slices(tmp_path)

    def test_nothing_there(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="found none"):
            list_slices(tmp_path)
        with pytest.raises(ValueError, match="no such folder"):
            list_slices(tmp_path / "x")

    def test_unknown_and_missing_files(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"a\.jpg: expected a slice file that ends in"):
            read_slice(tmp_path / "a.jpg")
        with pytest.raises(ValueError, match=r"a\.npz: .*no such file"):
            read_slice(tmp_path / "a.npz")
