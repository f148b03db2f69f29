"""Phantom scans: layout, grids, disjoint whole organs, one cut on purpose, reproducible and resumable."""

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from sam3d_objects.synthetic import PHANTOM_ORGANS, write_phantoms
from sam3d_objects.synthetic.phantoms import CUT_CASE_INDEX, CUT_ORGAN, NOTICE_NAME
from sam3d_objects.synthetic.scan import AIR_HU, phantom_scan
from sam3d_objects.volume import check_same_grid, read_label, read_nifti, shear_degrees

CASES = 4
NAMES = [organ.name for organ in PHANTOM_ORGANS]


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms") / "demo"
    write_phantoms(folder, CASES, seed=0)
    return folder


def masks_of(case: Path) -> dict[str, np.ndarray]:
    return {name: read_label(case / "segmentations" / f"{name}.nii.gz").voxels > 0 for name in NAMES}


def touches_border(mask: np.ndarray) -> bool:
    return bool(mask[1:-1, 1:-1, 1:-1].sum() < mask.sum())


def test_the_layout_is_totalsegmentators(phantoms: Path) -> None:
    found = sorted(str(path.relative_to(phantoms)) for path in phantoms.rglob("*") if path.is_file())
    expected = [NOTICE_NAME]
    for index in range(CASES):
        case = f"s{index + 1:04d}"
        expected += [f"{case}/ct.nii.gz", *(f"{case}/segmentations/{name}.nii.gz" for name in NAMES)]
    assert found == sorted(expected)
    assert "synthetic" in (phantoms / NOTICE_NAME).read_text()


def test_grids_are_valid_and_shared(phantoms: Path) -> None:
    oblique = []
    for index in range(CASES):
        case = phantoms / f"s{index + 1:04d}"
        image = read_nifti(case / "ct.nii.gz")
        for name in NAMES:
            check_same_grid(image, read_label(case / "segmentations" / f"{name}.nii.gz"), case.name)
        spacing = image.spacing_mm
        assert spacing[0] == pytest.approx(spacing[1], rel=1e-5)
        assert 1.1 < spacing[2] / spacing[0] < 3
        assert shear_degrees(image.affine) < 0.01
        off_axis = np.abs(image.affine[:3, :3] / spacing).max(axis=0).min()
        oblique.append(bool(off_axis < 0.999))
    assert oblique == [index % 3 == 2 for index in range(CASES)]


def test_organs_are_whole_and_disjoint_but_the_one_cut(phantoms: Path) -> None:
    for index in range(CASES):
        masks = masks_of(phantoms / f"s{index + 1:04d}")
        assert np.sum(list(masks.values()), axis=0).max() == 1
        for name, mask in masks.items():
            assert mask.sum() > 300
            assert touches_border(mask) == (index == CUT_CASE_INDEX and name == CUT_ORGAN)
            assert ndimage.label(mask)[1] == 1


def test_intensities_are_like_ct_and_organs_stand_out(phantoms: Path) -> None:
    for index in range(CASES):
        case = phantoms / f"s{index + 1:04d}"
        image = read_nifti(case / "ct.nii.gz").voxels
        assert image.min() < -950
        assert image[0, 0].mean() == pytest.approx(AIR_HU, abs=25)
        for organ in PHANTOM_ORGANS:
            mask = masks_of(case)[organ.name]
            core = ndimage.binary_erosion(mask)
            assert image[core].mean() == pytest.approx(organ.intensity_hu, abs=60)
            assert image[core].mean() > 45
            assert 5 < image[core].std() < 40


def test_patients_differ_smoothly(phantoms: Path) -> None:
    """Volumes of whole organs differ between patients, within a factor of five."""
    for name in NAMES:
        volumes = []
        for index in set(range(CASES)) - {CUT_CASE_INDEX}:
            label = read_label(phantoms / f"s{index + 1:04d}" / "segmentations" / f"{name}.nii.gz")
            volumes.append((label.voxels > 0).sum() * label.voxel_volume_mm3)
        assert 1.02 < max(volumes) / min(volumes) < 5


def test_a_case_depends_on_seed_and_number_alone(phantoms: Path, tmp_path: Path) -> None:
    write_phantoms(tmp_path / "again", 1, seed=0)
    write_phantoms(tmp_path / "other", 1, seed=1)
    first = read_nifti(phantoms / "s0001" / "ct.nii.gz")
    again = read_nifti(tmp_path / "again" / "s0001" / "ct.nii.gz")
    other = read_nifti(tmp_path / "other" / "s0001" / "ct.nii.gz")
    np.testing.assert_array_equal(first.voxels, again.voxels)
    np.testing.assert_array_equal(first.affine, again.affine)
    assert first.shape != other.shape or not np.array_equal(first.voxels, other.voxels)


def test_a_killed_run_goes_on_and_keeps_what_is_there(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    write_phantoms(folder, 2)
    kept, lost = folder / "s0001" / "ct.nii.gz", folder / "s0002" / "ct.nii.gz"
    stamp, voxels = kept.stat().st_mtime_ns, read_nifti(lost).voxels
    lost.unlink()
    seen: list[tuple[int, int]] = []
    assert write_phantoms(folder, 2, progress=lambda done, total: seen.append((done, total))) == [
        folder / "s0001",
        folder / "s0002",
    ]
    assert seen == [(1, 2), (2, 2)]
    assert kept.stat().st_mtime_ns == stamp
    np.testing.assert_array_equal(read_nifti(lost).voxels, voxels)


def test_phantoms_never_mix_with_other_scans(phantoms: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected phantoms of seed 7"):
        write_phantoms(phantoms, 1, seed=7)
    (tmp_path / "s0001").mkdir()
    with pytest.raises(ValueError, match="empty folder"):
        write_phantoms(tmp_path, 1)
    with pytest.raises(ValueError, match="at least one"):
        write_phantoms(tmp_path / "none", 0)


def test_the_cut_leaves_the_lower_part_of_the_organ() -> None:
    for seed in (0, 1, 2):
        whole = phantom_scan(np.random.default_rng(seed), oblique=False)
        cut = phantom_scan(np.random.default_rng(seed), oblique=False, cut_organ=CUT_ORGAN)
        share = cut.organs[CUT_ORGAN].voxels.sum() / whole.organs[CUT_ORGAN].voxels.sum()
        assert 0.4 < share < 0.95
        assert touches_border(cut.organs[CUT_ORGAN].voxels > 0)
        for name in set(NAMES) - {CUT_ORGAN}:
            assert cut.organs[name].voxels.sum() == whole.organs[name].voxels.sum()
            lowest = np.argwhere(cut.organs[name].voxels)[0]
            original = np.argwhere(whole.organs[name].voxels)[0]
            # The same voxel of the patient lies at the same mm, up to the (equal) table offset.
            np.testing.assert_allclose(
                cut.image.voxel_to_mm(lowest[None]), whole.image.voxel_to_mm(original[None]), atol=1e-6
            )
