from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from sam3d_objects.volume import (
    PLANES,
    Intensity,
    Volume,
    condition_image,
    read_label,
    read_nifti,
    slice_input,
)

MARGIN_MM = 3.0
AFFINE = np.diag([1.5, 0.8, 2.0, 1.0])


def scan_and_mask() -> tuple[Volume, Volume]:
    """A scan of noise and an ellipsoid that comes within the margin of the scan's border."""
    shape = (20, 30, 16)
    rng = np.random.default_rng(0)
    centre = np.array([10.0, 8.0, 8.0])
    inside = (((np.moveaxis(np.indices(shape), 0, -1) - centre) / (6, 8, 5)) ** 2).sum(axis=-1) <= 1
    return Volume(rng.gamma(2.0, 100.0, shape), AFFINE), Volume(inside, AFFINE)


@pytest.mark.parametrize("modality", ["ct", "mr", "us"])
@pytest.mark.parametrize("name", PLANES)
def test_voxels_beyond_the_margin_change_nothing(modality: str, name: str) -> None:
    image, mask = scan_and_mask()
    index = {"axial": 8, "coronal": 8, "sagittal": 10}[name]
    across = {"axial": 2, "coronal": 1, "sagittal": 0}[name]
    on_slice = mask.voxels & (np.indices(mask.shape)[across] == index)
    # The slice's own pixels within the margin stay; the neighbouring slices change as well.
    distance_mm = ndimage.distance_transform_edt(~on_slice, sampling=image.spacing_mm)
    far = (distance_mm > MARGIN_MM) | (np.indices(mask.shape)[across] != index)
    changed = image.with_voxels(np.where(far, image.voxels * 50 + 1e4, image.voxels))
    intensity = Intensity(modality)
    first, second = (
        condition_image(
            replace(slice_input(scan, mask, name, index), reference=scan.voxels.ravel()),
            intensity,
            "mask_margin",
            MARGIN_MM,
        )
        for scan in (image, changed)
    )
    np.testing.assert_array_equal(first[1], second[1])
    np.testing.assert_array_equal(first[0].image, second[0].image)
    np.testing.assert_array_equal(first[0].plane.affine, second[0].plane.affine)
    assert first[1][first[0].valid].std() > 0.05


def test_margin_image_is_normalised_by_what_is_seen() -> None:
    image, mask = scan_and_mask()
    given = slice_input(image, mask, "axial", 8)
    seen, image01 = condition_image(given, Intensity("mr", percentiles=(0, 100)), "mask_margin", MARGIN_MM)
    assert image01.dtype == np.float32
    assert image01[seen.valid].min() == 0
    assert image01[seen.valid].max() == 1
    assert (image01[~seen.valid] == 0).all()
    assert seen.plane.shape != given.plane.shape


def test_a_crop_of_the_scan_gives_the_same_as_the_scan() -> None:
    """Nothing but the slice may tell where the organ is."""
    image, mask = scan_and_mask()
    start, stop = (2, 0, 1), (18, 18, 15)
    window = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    affine = AFFINE.copy()
    affine[:3, 3] = image.voxel_to_mm([start])[0]
    crop, crop_mask = Volume(image.voxels[window], affine), Volume(mask.voxels[window], affine)
    for name, across, index in (("axial", 2, 8), ("coronal", 1, 8), ("sagittal", 0, 10)):
        whole = condition_image(slice_input(image, mask, name, index), Intensity("mr"), "mask_margin", 0.5)
        cropped = condition_image(
            slice_input(crop, crop_mask, name, index - start[across]), Intensity("mr"), "mask_margin", 0.5
        )
        np.testing.assert_array_equal(whole[1], cropped[1])
        np.testing.assert_allclose(whole[0].plane.affine, cropped[0].plane.affine, atol=1e-12)


def test_scan_takes_percentiles_of_the_reference_or_of_the_slice() -> None:
    image, mask = scan_and_mask()
    given = slice_input(image, mask, "axial", 8)
    intensity = Intensity("mr", percentiles=(1, 99))
    with_scan = replace(given, reference=image.voxels.ravel())
    same, by_volume = condition_image(with_scan, intensity, "scan", MARGIN_MM)
    _, by_slice = condition_image(given, intensity, "scan", MARGIN_MM)
    assert same is with_scan
    np.testing.assert_array_equal(by_volume, intensity.normalise(given.image, image.voxels))
    np.testing.assert_array_equal(by_slice, intensity.normalise(given.image))
    assert (by_volume != by_slice).any()


def test_unknown_field_of_view_gives_the_nearest() -> None:
    image, mask = scan_and_mask()
    with pytest.raises(ValueError, match="Did you mean 'mask_margin'"):
        condition_image(slice_input(image, mask, "axial", 8), Intensity("mr"), "mask-margin", MARGIN_MM)


def test_real_slice(shared_data: Path) -> None:
    folder, name = shared_data / "Task04_Hippocampus", "hippocampus_004.nii.gz"
    image, label = read_nifti(folder / "imagesTr" / name), read_label(folder / "labelsTr" / name)
    for plane in PLANES:
        seen, image01 = condition_image(slice_input(image, label, plane, 20), Intensity("mr"), "mask_margin", 3)
        assert 0 <= image01.min() < image01.max() <= 1
        marked = np.argwhere(seen.mask)
        # 3 mm at 1 mm spacing, on every side.
        assert marked.min(axis=0).tolist() == [3, 3]
        assert (np.array(seen.plane.shape) - 1 - marked.max(axis=0)).tolist() == [3, 3]
