"""A prepared case gives back the scan: its voxels, its place, its slices by native index."""

from pathlib import Path

import numpy as np
import pytest

from sam3d_objects.dataset import Manifest, PreparedCase, PrepareOptions, prepare
from sam3d_objects.volume import PLANES, condition_image, read_label, read_nifti, slice_input
from tests.dataset.scans import write_scan


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One oblique MR scan with a box off its middle, so that the crop has an offset along every axis."""
    folder = tmp_path_factory.mktemp("raw")
    mask = np.zeros((40, 44, 36), dtype=np.uint8)
    mask[20:27, 18:26, 17:24] = 1
    turn = np.array([[0.0, -0.9, 0.1], [-0.8, 0.0, 0.0], [0.0, 0.12, 1.1]])
    affine = np.eye(4)
    affine[:3, :3] = np.linalg.qr(turn)[0] * [0.9, 1.0, 1.1]
    affine[:3, 3] = [10, -20, 30]
    image = np.random.default_rng(0).uniform(0, 1.7e6, mask.shape).astype(np.float32)
    write_scan(folder / "x.nii.gz", image, affine)
    write_scan(folder / "x_label.nii.gz", mask, affine)
    return folder


@pytest.fixture(scope="module")
def case(source: Path, tmp_path_factory: pytest.TempPathFactory) -> PreparedCase:
    """It, prepared."""
    out = tmp_path_factory.mktemp("out")
    options = PrepareOptions(modality="mr")
    manifest = prepare(source, out, options, say=lambda line: None, show_progress=False)
    return PreparedCase(out, manifest.cases[0])


def test_the_crop_lies_where_it_was_in_the_scan(source: Path, case: PreparedCase) -> None:
    scan = read_nifti(source / "x.nii.gz")
    first = np.array(case.entry.crop_offset_vox)
    assert (first > 0).all()
    window = tuple(slice(a, a + n) for a, n in zip(first, case.entry.shape, strict=True))
    assert np.abs(case.image.voxels - scan.voxels[window]).max() <= case.entry.rounding * 1.001 + 0.1
    np.testing.assert_allclose(case.image.voxel_to_mm([[0, 0, 0]]), scan.voxel_to_mm([first]), atol=1e-9)
    label = read_label(source / "x_label.nii.gz").voxels > 0
    np.testing.assert_array_equal(case.native_label("1").voxels, label)
    np.testing.assert_array_equal(case.label("1").voxels, label[window])


@pytest.mark.parametrize("plane_name", PLANES)
def test_a_slice_is_that_of_the_scan_by_native_index(source: Path, case: PreparedCase, plane_name: str) -> None:
    scan, label = read_nifti(source / "x.nii.gz"), read_label(source / "x_label.nii.gz")
    for index in (20, 22):
        whole = slice_input(scan, label, plane_name, index)
        part = case.slice("1", plane_name, index)
        assert part.plane.slice_index == whole.plane.slice_index == index
        # Cut to the margin both are one: same pixels, same place, same intensities.
        intensity = Manifest.load(case_root(case)).intensity
        expected, expected01 = condition_image(whole, intensity, "mask_margin", 3.0)
        found, found01 = condition_image(part, intensity, "mask_margin", 3.0)
        np.testing.assert_array_equal(found.mask, expected.mask)
        np.testing.assert_array_equal(found.valid, expected.valid)
        np.testing.assert_allclose(found.plane.affine, expected.plane.affine, atol=1e-9)
        np.testing.assert_allclose(found01, expected01, atol=1e-4)


def test_percentiles_of_the_reference_are_those_of_the_scan(case: PreparedCase) -> None:
    np.testing.assert_allclose(
        np.percentile(case.reference, (0.5, 50, 99.5)),
        np.percentile(case.image.voxels, (0.5, 50, 99.5)),
        rtol=1e-5,
    )


def test_unknown_organs_planes_and_slices_are_named(case: PreparedCase) -> None:
    with pytest.raises(ValueError, match=r"case x has no '2'; it has 1\."):
        case.mesh("2")
    with pytest.raises(ValueError, match="slice index"):
        case.slice("1", "axial", 36)
    with pytest.raises(ValueError, match="mask is empty"):
        case.slice("1", "axial", case.entry.crop_offset_vox[2] + 1)
    with pytest.raises(ValueError, match="plane"):
        case.slice("1", "oblique", 20)


def test_a_case_whose_files_are_gone_names_them(case: PreparedCase, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"volume\.npz is missing"):
        PreparedCase(tmp_path, case.entry).slice("1", "axial", 20)


def case_root(case: PreparedCase) -> Path:
    return case._folder.parent.parent
