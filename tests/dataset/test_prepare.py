"""The whole way from files to a manifest: what is kept, what is left out and why, and what is an error."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from sam3d_objects.dataset import Manifest, PreparedCase, PrepareOptions, prepare
from sam3d_objects.dataset.target_figures import TargetFigures, TargetRecord
from tests.dataset.scans import (
    AFFINE,
    SHAPE,
    ellipsoid,
    organ_of,
    write_decathlon,
    write_pairs,
    write_scan,
    write_totalsegmentator,
)


def run(source: Path, out: Path, lines: list[str] | None = None, **options: object) -> Manifest:
    chosen = PrepareOptions(**options)  # type: ignore[arg-type]  # checked when made
    return prepare(source, out, chosen, say=(lines if lines is not None else []).append, show_progress=False)


def test_a_decathlon_task_with_a_union_and_a_part(tmp_path: Path) -> None:
    lines: list[str] = []
    ids = [f"case_{number}" for number in range(6)]
    manifest = run(write_decathlon(tmp_path / "raw", ids), tmp_path / "out", lines, structures="organ=1+2,back=2")
    assert Manifest.load(tmp_path / "out") == manifest
    assert (manifest.modality, manifest.layout) == ("mr", "decathlon")
    assert dict(manifest.structures) == {"organ": (1, 2), "back": (2,)}
    assert [case.id for case in manifest.cases] == ids
    assert sorted(manifest.split.values()) == ["test", "train", "train", "train", "train", "val"]
    assert any(line.startswith("field of view: mask_margin") for line in lines)
    assert any("each case is taken as a patient" in line for line in lines)
    case = PreparedCase(tmp_path / "out", manifest.cases[1])
    np.testing.assert_array_equal(case.native_label("organ").voxels, organ_of(1))
    facts = manifest.cases[1].organs["organ"]
    assert facts.voxels == organ_of(1).sum()
    assert facts.volume_mm3 == pytest.approx(facts.voxels * 1.8)
    assert facts.mesh_volume_mm3 == pytest.approx(facts.volume_mm3, rel=0.02)
    assert case.mesh("organ").is_watertight
    np.testing.assert_allclose(np.array(facts.box_mm), case.mesh("organ").bounds)


def test_preparing_the_same_again_keeps_what_is_known_of_the_targets(tmp_path: Path) -> None:
    raw = write_decathlon(tmp_path / "raw", [f"case_{number}" for number in range(4)])
    manifest = run(raw, tmp_path / "out", structures="organ=1+2")
    figures = TargetRecord("tiny", "a" * 64, "encoder", {"case_0": {"organ": TargetFigures(0.9, 0.2, 0.5)}})
    noted = manifest.with_targets("structure", figures)
    noted.save(tmp_path / "out")
    assert run(raw, tmp_path / "out", structures="organ=1+2") == noted
    assert not run(raw, tmp_path / "out", structures="organ=1").targets


def test_totalsegmentator_folders(tmp_path: Path) -> None:
    manifest = run(write_totalsegmentator(tmp_path / "raw"), tmp_path / "out", structures="liver,both=gland+liver")
    assert manifest.modality == "ct"
    assert list(manifest.cases[0].organs) == ["liver", "both"]
    assert manifest.cases[0].sources.keys() == {
        "s0000/ct.nii.gz",
        "s0000/segmentations/gland.nii.gz",
        "s0000/segmentations/liver.nii.gz",
    }


def test_a_plain_folder_asks_for_the_modality(tmp_path: Path) -> None:
    source = write_pairs(tmp_path / "raw", ["one", "two", "three"])
    with pytest.raises(ValueError, match="give --modality"):
        run(source, tmp_path / "out")
    manifest = run(source, tmp_path / "out", modality="us")
    assert manifest.modality == "us"
    assert list(manifest.structures) == ["1"]


def test_what_is_left_out_is_recorded_and_said(tmp_path: Path) -> None:
    source = write_totalsegmentator(tmp_path / "raw", cases=6)
    masks = {
        "s0000": ellipsoid((12.5, 3.0, 11.5)),  # leaves the scan
        "s0001": ellipsoid(radii=(2.0, 2.0, 1.0)),
        "s0002": ellipsoid((5, 8, 8), (3, 3, 3)) | ellipsoid((18, 20, 15), (3, 3, 3)),
        "s0003": np.zeros(SHAPE, dtype=bool),
    }
    for name, mask in masks.items():
        write_scan(source / name / "segmentations" / "liver.nii.gz", mask.astype(np.uint8))
    lines: list[str] = []
    manifest = run(source, tmp_path / "out", lines, structures="liver")
    assert [(item.case, item.organ, item.reason) for item in manifest.skipped] == [
        ("s0000", "liver", "cut"),
        ("s0001", "liver", "small"),
        ("s0002", "liver", "parts"),
        ("s0003", "liver", "absent"),
    ]
    assert [case.id for case in manifest.cases] == ["s0004", "s0005"]
    assert manifest.split.keys() == {"s0004", "s0005"}
    said = "\n".join(lines)
    assert "left out: 1 absent, 1 cut, 1 parts, 1 small" in said
    assert "s0000 liver: cut by the scan's border: touches the first voxel plane of axis 1" in said
    kept = run(source, tmp_path / "out", lines, structures="liver", keep=("cut", "parts"))
    assert [case.id for case in kept.cases] == ["s0000", "s0002", "s0004", "s0005"]
    assert "cut by the scan's border" in kept.cases[0].organs["liver"].notes[0]


def test_nothing_left_is_an_error_with_reasons(tmp_path: Path) -> None:
    source = write_totalsegmentator(tmp_path / "raw", cases=2)
    with pytest.raises(ValueError, match=r"every structure.*2 small.*--keep"):
        run(source, tmp_path / "out", structures="gland", min_voxels=10_000)


def test_a_label_that_no_file_holds_is_an_error(tmp_path: Path) -> None:
    source = write_pairs(tmp_path / "raw", ["one_ct", "two_ct"])
    with pytest.raises(ValueError, match=r"label value '5' is in no case of this data set; available: 1\."):
        run(source, tmp_path / "out", structures="1+5")


def test_a_union_with_a_label_missing_is_kept_and_noted(tmp_path: Path) -> None:
    only_front = organ_of(0).astype(np.uint8)
    source = write_decathlon(tmp_path / "raw", ["a", "b", "c"], labels={"a": only_front})
    manifest = run(source, tmp_path / "out", structures="organ=1+2")
    assert manifest.cases[0].organs["organ"].notes == ("only 1 of the 2 labels 1+2 are in this case",)


def break_cases(source: Path) -> None:
    """One of each: empty, truncated, no NIfTI, missing, other shape, other affine, sheared, 4D."""
    image = source / "imagesTr"
    (image / "c0.nii.gz").write_bytes(b"")
    (image / "c1.nii.gz").write_bytes((image / "c1.nii.gz").read_bytes()[:300])
    (image / "c2.nii.gz").write_text("no NIfTI at all, but long enough to be mistaken for something else" * 10)
    (image / "c3.nii.gz").unlink()
    write_scan(source / "labelsTr" / "c4.nii.gz", np.ones((5, 5, 5), np.uint8))
    moved = AFFINE.copy()
    moved[0, 3] += 1
    write_scan(source / "labelsTr" / "c5.nii.gz", organ_of(5).astype(np.uint8), moved)
    sheared = AFFINE.copy()
    sheared[0, 1] = 0.3
    for folder in ("imagesTr", "labelsTr"):
        write_scan(source / folder / "c6.nii.gz", organ_of(6).astype(np.int16), sheared)
    nib.Nifti1Image(np.zeros((5, 5, 5, 2), np.float32), AFFINE).to_filename(image / "c7.nii.gz")


def test_all_broken_cases_are_named_at_the_end_or_recorded(tmp_path: Path) -> None:
    source = write_decathlon(tmp_path / "raw", [f"c{number}" for number in range(10)])
    break_cases(source)
    with pytest.raises(ValueError, match="8 of 10 cases cannot be read") as error:
        run(source, tmp_path / "out", structures="1+2")
    for number, words in enumerate(
        ("empty", "truncated", "gzip", "no such file", "shape", "affine", "orthogonal", "3d volume")
    ):
        line = next(line for line in str(error.value).splitlines() if line.startswith(f"  c{number}:"))
        assert f"c{number}.nii.gz" in line
        assert words in line.lower()
    assert not (tmp_path / "out" / "manifest.json").exists()
    lines: list[str] = []
    manifest = run(source, tmp_path / "out", lines, structures="1+2", on_error="skip")
    assert [item.reason for item in manifest.skipped] == ["unreadable"] * 8
    assert [case.id for case in manifest.cases] == ["c8", "c9"]
    assert "2 cases were already prepared and are unchanged" in lines


def test_a_test_folder_of_its_own(tmp_path: Path) -> None:
    source = write_totalsegmentator(tmp_path / "raw", cases=5)
    tests = tmp_path / "tests"
    tests.mkdir()
    with pytest.raises(ValueError, match="holds no labelled scans"):
        run(source, tmp_path / "out", test_source=tests)
    (source / "s0004").rename(tests / "s0004")
    manifest = run(source, tmp_path / "out", test_source=tests)
    assert [case.id for case in manifest.of_split("test")] == ["s0004"]
    assert sorted(manifest.split.values()) == ["test", "train", "train", "train", "val"]
    with pytest.raises(ValueError, match="patients would be in training and in the test folder: s0000"):
        run(source, tmp_path / "out", test_source=source)


def test_one_patient_in_both_folders_is_refused_whatever_the_cases_are_called(tmp_path: Path) -> None:
    source = write_decathlon(tmp_path / "raw", ["hippocampus_001", "hippocampus_003", "hippocampus_005"])
    tests = write_decathlon(tmp_path / "tests", ["hippocampus_004"])
    with pytest.raises(ValueError, match=r"hippocampus_3\+4"):
        run(source, tmp_path / "out", test_source=tests)


def test_cases_of_another_modality_are_left_out(tmp_path: Path) -> None:
    source = write_totalsegmentator(tmp_path / "raw", cases=4)
    (source / "s0002" / "ct.nii.gz").rename(source / "s0002" / "mri.nii.gz")
    with pytest.raises(ValueError, match="several modalities"):
        run(source, tmp_path / "out")
    manifest = run(source, tmp_path / "out", modality="ct", structures="liver")
    assert [(item.case, item.reason) for item in manifest.skipped] == [("s0002", "modality")]


def test_the_same_scan_under_two_names_is_pointed_out(tmp_path: Path) -> None:
    source = write_totalsegmentator(tmp_path / "raw", cases=3)
    # Its labels may be another reader's.
    (source / "s0002/ct.nii.gz").write_bytes((source / "s0000/ct.nii.gz").read_bytes())
    lines: list[str] = []
    run(source, tmp_path / "out", lines, structures="liver")
    assert any("very same scan: s0000 = s0002" in line for line in lines)


@pytest.mark.parametrize(
    ("field_of_view", "shape", "offset"),
    [("scan", SHAPE, (0, 0, 0)), ("mask_margin", (25, 24, 20), (0, 2, 2))],
)
def test_how_much_of_a_scan_is_kept(
    tmp_path: Path, field_of_view: str, shape: tuple[int, int, int], offset: tuple[int, int, int]
) -> None:
    source = tmp_path / "raw"
    mask = np.zeros(SHAPE, dtype=bool)
    mask[8:13, 12:16, 10:14] = True  # 12 mm are 12, 10 and 8 voxels
    write_scan(source / "x.nii.gz", mask.astype(np.int16))
    write_scan(source / "x_seg.nii.gz", mask.astype(np.uint8))
    case = run(source, tmp_path / "out", modality="mr", field_of_view=field_of_view).cases[0]
    assert (case.shape, case.crop_offset_vox, case.native_shape) == (shape, offset, SHAPE)


def test_options_are_checked_when_they_are_made() -> None:
    for name, value, message in [
        ("layout", "totalsegmenter", "Did you mean 'totalsegmentator'"),
        ("modality", "pet", "modality must be one of ct, mr, us"),
        ("field_of_view", "mask", "field_of_view must be one of"),
        ("on_error", "ignore", "on_error must be one of"),
        ("keep", ("cuts",), "Did you mean 'cut'"),
        ("margin_mm", 0.0, "margin_mm must be above 0"),
        ("val_fraction", 1.0, "val_fraction must be at least 0"),
        ("test_fraction", 0.95, "leave no training"),
        ("min_voxels", 0, "min_voxels must be at least 1"),
        ("max_part_percent", -1.0, "max_part_percent"),
        ("num_workers", -1, "num_workers"),
    ]:
        with pytest.raises(ValueError, match=message):
            PrepareOptions(**{name: value})  # type: ignore[arg-type]  # that is the test
