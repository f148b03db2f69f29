import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from sam3d_objects.volume import Volume, read_label, read_nifti, write_nifti

Damage = Callable[[Path], None]


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """A gzipped int16 scan with an affine of its own, written by nibabel."""
    path = tmp_path / "scan.nii.gz"
    voxels = np.random.default_rng(0).integers(-1000, 1000, (6, 7, 8)).astype(np.int16)
    nib.Nifti1Image(voxels, np.diag([-2.0, 3.0, 4.0, 1.0])).to_filename(path)
    return path


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.float32, np.float64])
def test_written_and_read(volume: Volume, tmp_path: Path, suffix: str, dtype: type) -> None:
    path = tmp_path / f"x{suffix}"
    write_nifti(path, volume.with_voxels((volume.voxels // 2).astype(dtype)))
    back = read_nifti(path, dtype=None)
    assert back.voxels.dtype == dtype
    np.testing.assert_array_equal(back.voxels, volume.voxels // 2)
    np.testing.assert_allclose(back.affine, volume.affine, atol=1e-5)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_default_is_float32_in_the_orientation_of_the_file(scan: Path) -> None:
    volume = read_nifti(scan)
    assert volume.voxels.dtype == np.float32
    np.testing.assert_array_equal(volume.voxels, nib.Nifti1Image.from_filename(scan).get_fdata())
    np.testing.assert_array_equal(volume.affine, nib.Nifti1Image.from_filename(scan).affine)


def test_others_read_the_same_affine_from_sform_and_qform(volume: Volume, tmp_path: Path) -> None:
    path = tmp_path / "x.nii.gz"
    write_nifti(path, volume)
    header = nib.Nifti1Image.from_filename(path).header
    np.testing.assert_allclose(header.get_sform(), volume.affine, atol=1e-4)
    # A quaternion holds no shear: 0.23 degrees over 2.5 mm.
    np.testing.assert_allclose(header.get_qform(), volume.affine, atol=5e-3)
    assert header.get_xyzt_units()[0] == "mm"


def test_writing_is_deterministic_and_stores_bool_and_float16(tmp_path: Path) -> None:
    volume = Volume(np.arange(27).reshape(3, 3, 3) > 5, np.eye(4))
    write_nifti(tmp_path / "a.nii.gz", volume)
    write_nifti(tmp_path / "b.nii.gz", volume)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    assert read_nifti(tmp_path / "a.nii.gz", dtype=None).voxels.dtype == np.uint8
    write_nifti(tmp_path / "c.nii", volume.with_voxels(volume.voxels.astype(np.float16) / 4))
    assert read_nifti(tmp_path / "c.nii").voxels.max() == 0.25


def test_sform_wins_over_qform_and_qform_over_nothing(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.zeros((2, 2, 2), np.int16), np.diag([3.0, 3.0, 3.0, 1.0]))
    image.set_qform(np.diag([2.0, 2.0, 2.0, 1.0]), code=1, update_affine=False)
    for sform_code, spacing_mm in ((1, 3.0), (0, 2.0)):
        image.header["sform_code"] = sform_code
        raw = image.header.binaryblock + bytes(4 + 16)
        (tmp_path / "x.nii").write_bytes(raw)
        assert read_nifti(tmp_path / "x.nii").affine[0, 0] == spacing_mm


@pytest.mark.parametrize(("unit", "mm"), [("unknown", 1.0), ("mm", 1.0), ("meter", 1000.0), ("micron", 0.001)])
def test_lengths_are_brought_to_millimetres(tmp_path: Path, unit: str, mm: float) -> None:
    affine = np.array([[2.0, 0, 0, 5], [0, 3, 0, -7], [0, 0, 4, 1], [0, 0, 0, 1]])
    image = nib.Nifti1Image(np.zeros((2, 3, 4), np.float32), affine)
    image.header.set_xyzt_units(unit)
    image.to_filename(tmp_path / "scan.nii.gz")
    volume = read_nifti(tmp_path / "scan.nii.gz")
    np.testing.assert_allclose(volume.affine[:3], affine[:3] * mm)
    np.testing.assert_allclose(volume.spacing_mm, np.array([2.0, 3.0, 4.0]) * mm)


def test_slope_and_intercept_are_applied(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.arange(8, dtype=np.int16).reshape(2, 2, 2), np.eye(4))
    image.header.set_slope_inter(0.5, -3)
    image.to_filename(tmp_path / "x.nii")
    expected = np.asarray(nib.Nifti1Image.from_filename(tmp_path / "x.nii").dataobj)
    np.testing.assert_allclose(read_nifti(tmp_path / "x.nii").voxels, expected)


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_big_endian_and_nifti2(tmp_path: Path, kind: Any) -> None:
    header = kind.header_class(endianness=">")
    voxels = np.arange(8, dtype=">i2").reshape(2, 2, 2)
    kind(voxels, np.eye(4), header).to_filename(tmp_path / "x.nii")
    back = read_nifti(tmp_path / "x.nii", dtype=None)
    assert back.voxels.dtype.isnative
    np.testing.assert_array_equal(back.voxels, voxels)


def test_trailing_axes_of_one_are_dropped(tmp_path: Path) -> None:
    voxels = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    nib.Nifti1Image(voxels[..., None, None], np.eye(4)).to_filename(tmp_path / "x.nii.gz")
    np.testing.assert_array_equal(read_nifti(tmp_path / "x.nii.gz").voxels, voxels)


def test_a_two_dimensional_image_only_on_request(tmp_path: Path) -> None:
    nib.Nifti1Image(np.ones((3, 4), np.int16), np.eye(4)).to_filename(tmp_path / "x.nii")
    assert read_nifti(tmp_path / "x.nii", allow_2d=True).shape == (3, 4, 1)
    with pytest.raises(ValueError, match=r"x\.nii: expected a 3D volume, found shape \(3, 4\)"):
        read_nifti(tmp_path / "x.nii")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def missing(path: Path) -> None:
    path.unlink()


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def cut_gzip(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def cut_gzip_trailer(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def flip_gzip_byte(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 0xFF
    path.write_bytes(raw)


def rewrite(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(gzip.compress(change(gzip.decompress(path.read_bytes()))))


def cut_voxels(path: Path) -> None:
    rewrite(path, lambda raw: raw[:-10])


def cut_header(path: Path) -> None:
    rewrite(path, lambda raw: raw[:200])


def cut_first_word(path: Path) -> None:
    rewrite(path, lambda raw: raw[:2])


def not_nifti(path: Path) -> None:
    rewrite(path, lambda raw: b"<html>404</html>" * 40)


def no_gzip(path: Path) -> None:
    path.write_bytes(b"<html>404</html>" * 40)


def pair_magic(path: Path) -> None:
    rewrite(path, lambda raw: raw[:344] + b"ni1\x00" + raw[348:])


def pixdim(value: float) -> Damage:
    spot = slice(80, 84)  # pixdim[1]
    number = np.float32(value).tobytes()
    return lambda path: rewrite(path, lambda raw: raw[: spot.start] + number + raw[spot.stop :])


def sform(value: float) -> Damage:
    number = np.float32(value).tobytes()
    return lambda path: rewrite(path, lambda raw: raw[:280] + number + raw[284:])  # srow_x[0]


def unknown_dtype(path: Path) -> None:
    rewrite(path, lambda raw: raw[:70] + np.int16(999).tobytes() + raw[72:])


def image_of(voxels: np.ndarray) -> Damage:
    return lambda path: nib.Nifti1Image(voxels, np.eye(4)).to_filename(path)


BAD_FILES: list[tuple[Damage, str]] = [
    (missing, "no such file"),
    (folder, "a folder"),
    (empty, "empty file"),
    (cut_gzip, "truncated or damaged gzip"),
    (cut_gzip_trailer, "truncated or damaged gzip"),
    (flip_gzip_byte, "truncated or damaged gzip"),
    (cut_voxels, r"truncated: expected 1024 bytes.*found 1014"),
    (cut_header, "truncated: expected a header of 348 bytes, found 200"),
    (cut_first_word, "truncated: expected a header of 348 bytes, found 2"),
    (not_nifti, "another format"),
    (no_gzip, "expected a gzip file"),
    (pair_magic, "single-file NIfTI"),
    (pixdim(0.0), r"non-zero voxel spacing, found \[0\.0, 3\.0, 4\.0\]"),
    (pixdim(np.nan), "non-zero voxel spacing"),
    (sform(np.nan), "finite affine"),
    (sform(0.0), "non-zero voxel spacing"),
    (unknown_dtype, "valid NIfTI header"),
    (image_of(np.zeros((3, 3, 3, 2), np.int16)), r"3D volume, found shape \(3, 3, 3, 2\).*split"),
    (image_of(np.full((3, 3, 3), np.nan, np.float32)), "27 NaN or infinite"),
    (image_of(np.zeros((3, 3, 3), np.complex64)), "one real number"),
    (image_of(np.full((3, 3, 3), 1e300)), "float32 can hold"),
]


@pytest.mark.parametrize(
    ("damage", "message"), BAD_FILES, ids=[f"{i} {message[:25]}" for i, (_, message) in enumerate(BAD_FILES)]
)
def test_bad_file(scan: Path, damage: Damage, message: str) -> None:
    damage(scan)
    with pytest.raises(ValueError, match=message) as caught:
        read_nifti(scan)
    assert str(caught.value).count(str(scan)) == 1


def test_cut_uncompressed_file_at_any_length(scan: Path, tmp_path: Path) -> None:
    raw = gzip.decompress(scan.read_bytes())
    path = tmp_path / "cut.nii"
    for length in (1, 3, 100, 347, 348, 352, 500, len(raw) - 1):
        path.write_bytes(raw[:length])
        with pytest.raises(ValueError, match=r"cut\.nii: truncated"):
            read_nifti(path)
    path.write_bytes(raw)
    np.testing.assert_array_equal(read_nifti(path).voxels, read_nifti(scan).voxels)


class TestLabels:
    def write(self, path: Path, voxels: np.ndarray) -> Path:
        nib.Nifti1Image(voxels, np.eye(4)).to_filename(path / "label.nii.gz")
        return path / "label.nii.gz"

    @pytest.mark.parametrize(
        ("highest", "dtype"), [(2, np.uint8), (255, np.uint8), (256, np.int16), (70000, np.int32)]
    )
    def test_smallest_dtype(self, tmp_path: Path, highest: int, dtype: type) -> None:
        voxels = np.zeros((2, 2, 2), np.float32)
        voxels[0, 1, 0] = highest
        label = read_label(self.write(tmp_path, voxels))
        assert label.voxels.dtype == dtype
        np.testing.assert_array_equal(label.voxels, voxels)

    def test_whole_numbers_that_a_slope_moved_a_little(self, tmp_path: Path) -> None:
        voxels = np.zeros((2, 2, 2), np.float32)
        voxels[0, 1, 0] = 1
        image = nib.Nifti1Image(voxels, np.eye(4))
        image.set_data_dtype(np.uint8)  # nibabel then chooses a slope of 1 / 255
        image.to_filename(tmp_path / "label.nii.gz")
        assert (np.asanyarray(nib.Nifti1Image.from_filename(tmp_path / "label.nii.gz").dataobj) != voxels).any()
        np.testing.assert_array_equal(read_label(tmp_path / "label.nii.gz").voxels, voxels)

    def test_fractions_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"label\.nii\.gz: .*8 voxels such as 0\.5"):
            read_label(self.write(tmp_path, np.full((2, 2, 2), 0.5, np.float32)))

    def test_too_large(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"label\.nii\.gz: .*32 bits"):
            read_label(self.write(tmp_path, np.full((2, 2, 2), 3e9)))


class TestWriting:
    def test_values_are_never_wrapped(self, tmp_path: Path) -> None:
        volume = Volume(np.full((2, 2, 2), 300), np.eye(4))
        with pytest.raises(ValueError, match="uint8 can hold"):
            write_nifti(tmp_path / "x.nii.gz", volume, dtype=np.uint8)
        with pytest.raises(ValueError, match="with fractions"):
            write_nifti(tmp_path / "x.nii.gz", volume.with_voxels(volume.voxels + 0.5), dtype=np.int16)
        assert list(tmp_path.iterdir()) == []

    def test_other_suffix(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"ends in \.nii or \.nii\.gz"):
            write_nifti(tmp_path / "x.mha", Volume(np.zeros((2, 2, 2)), np.eye(4)))

    def test_full_disk_leaves_the_old_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "x.nii.gz"
        volume = Volume(np.zeros((2, 2, 2), np.int16), np.eye(4))
        write_nifti(path, volume)
        before = path.read_bytes()

        def full(self: Path, data: bytes) -> int:
            self.touch()
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match=r"x\.nii\.gz"):
            write_nifti(path, volume.with_voxels(volume.voxels + 1))
        assert path.read_bytes() == before
        assert [p.name for p in tmp_path.iterdir()] == ["x.nii.gz"]


def test_real_scan_reads_as_nibabel_reads_it(shared_data: Path) -> None:
    for path in (
        shared_data / "Task04_Hippocampus/imagesTr/hippocampus_004.nii.gz",
        shared_data / "totalsegmentator_sample/s0000/ct.nii.gz",
    ):
        volume, image = read_nifti(path), nib.Nifti1Image.from_filename(path)
        np.testing.assert_allclose(volume.voxels, image.get_fdata(), rtol=1e-6)
        np.testing.assert_array_equal(volume.affine, image.affine)
