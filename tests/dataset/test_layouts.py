"""Each layout is recognised, lists its cases, and says what it cannot know."""

import json
from pathlib import Path

import pytest

from sam3d_objects.dataset.layouts import RawCase, read_layout
from sam3d_objects.dataset.layouts.raw import dataset_modality
from tests.dataset.scans import write_decathlon, write_pairs, write_totalsegmentator


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_totalsegmentator_is_recognised_with_its_organs_and_modality(tmp_path: Path) -> None:
    raw = read_layout(write_totalsegmentator(tmp_path, cases=2))
    assert (raw.layout, raw.organ_names, raw.has_label_values) == (
        "totalsegmentator",
        ("gland", "liver"),
        False,
    )
    assert [(case.id, case.modality) for case in raw.cases] == [("s0000", "ct"), ("s0001", "ct")]


def test_a_single_totalsegmentator_case_and_an_mri(tmp_path: Path) -> None:
    write_totalsegmentator(tmp_path, cases=1, scan="mri")
    assert [(case.id, case.modality) for case in read_layout(tmp_path / "s0000").cases] == [("s0000", "mr")]


def test_a_totalsegmentator_case_without_its_scan_is_listed_so_that_it_fails_later(tmp_path: Path) -> None:
    write_totalsegmentator(tmp_path, cases=2)
    (tmp_path / "s0001" / "ct.nii.gz").unlink()
    case = read_layout(tmp_path).cases[1]
    assert (case.id, case.image.name, case.image.exists()) == ("s0001", "ct.nii.gz", False)


def test_decathlon_lists_what_is_there_and_what_dataset_json_names(tmp_path: Path) -> None:
    write_decathlon(tmp_path, ["a_1", "a_2"])
    touch(tmp_path / "imagesTr" / "extra.nii.gz", tmp_path / "imagesTr" / "._a_1.nii.gz")
    (tmp_path / "imagesTr" / "a_2.nii.gz").unlink()
    raw = read_layout(tmp_path)
    assert (raw.layout, raw.title, raw.label_names) == ("decathlon", "Made up", {"Front": 1, "Back": 2})
    assert [case.id for case in raw.cases] == ["a_1", "a_2", "extra"]
    assert {case.modality for case in raw.cases} == {"mr"}
    assert raw.cases[2].label == tmp_path / "labelsTr" / "extra.nii.gz"


def test_names_in_dataset_json_win_over_guessed_ones(tmp_path: Path) -> None:
    write_decathlon(tmp_path, ["a", "b"])
    (tmp_path / "imagesTr/a.nii.gz").rename(tmp_path / "imagesTr/scan_of_a.nii.gz")
    description = json.loads((tmp_path / "dataset.json").read_text())
    description["training"][0]["image"] = "./imagesTr/scan_of_a.nii.gz"
    (tmp_path / "dataset.json").write_text(json.dumps(description))
    assert [(case.id, case.image.name) for case in read_layout(tmp_path).cases] == [
        ("a", "scan_of_a.nii.gz"),
        ("b", "b.nii.gz"),
    ]


def test_nnunet_numbers_the_channels_of_its_images(tmp_path: Path) -> None:
    write_decathlon(tmp_path, ["a", "b"])
    for name in ("a", "b"):
        (tmp_path / f"imagesTr/{name}.nii.gz").rename(tmp_path / f"imagesTr/{name}_0000.nii.gz")
    description = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "front": 1}, "numTraining": 2}
    (tmp_path / "dataset.json").write_text(json.dumps(description))
    raw = read_layout(tmp_path)
    assert [(case.id, case.image.name, case.modality) for case in raw.cases] == [
        ("a", "a_0000.nii.gz", "ct"),
        ("b", "b_0000.nii.gz", "ct"),
    ]
    assert all(case.label is not None and case.label.is_file() for case in raw.cases)


def test_decathlon_without_dataset_json_has_values_only(tmp_path: Path) -> None:
    write_decathlon(tmp_path, ["a_1"])
    (tmp_path / "dataset.json").unlink()
    raw = read_layout(tmp_path)
    assert (raw.label_names, raw.cases[0].modality) == ({}, None)


def test_label_names_in_either_direction(tmp_path: Path) -> None:
    write_decathlon(tmp_path, ["a_1"])
    description = json.loads((tmp_path / "dataset.json").read_text())
    description["labels"] = {"background": 0, "front": 1, "back": 2}
    (tmp_path / "dataset.json").write_text(json.dumps(description))
    assert read_layout(tmp_path).label_names == {"front": 1, "back": 2}


def test_several_channels_are_refused_with_a_remedy(tmp_path: Path) -> None:
    write_decathlon(tmp_path, ["a_1"])
    description = json.loads((tmp_path / "dataset.json").read_text())
    description["modality"] = {"0": "FLAIR", "1": "T1w"}
    (tmp_path / "dataset.json").write_text(json.dumps(description))
    with pytest.raises(ValueError, match=r"2 channels \(FLAIR, T1w\).*four_to_three"):
        read_layout(tmp_path)


def test_a_broken_dataset_json_names_the_file(tmp_path: Path) -> None:
    write_decathlon(tmp_path, ["a_1"])
    (tmp_path / "dataset.json").write_text('{"labels": ')
    with pytest.raises(ValueError, match=r"dataset\.json is not valid JSON"):
        read_layout(tmp_path)


@pytest.mark.parametrize("ending", ["_label", "_seg"])
def test_pairs_side_by_side(tmp_path: Path, ending: str) -> None:
    raw = read_layout(write_pairs(tmp_path, ["x_ct", "y_ct"], ending))
    assert raw.layout == "folder"
    assert [(case.id, case.label and case.label.name) for case in raw.cases] == [
        ("x_ct", f"x_ct{ending}.nii.gz"),
        ("y_ct", f"y_ct{ending}.nii.gz"),
    ]
    assert {case.modality for case in raw.cases} == {"ct"}


def test_images_and_labels_folders(tmp_path: Path) -> None:
    touch(*(tmp_path / folder / "one.nii" for folder in ("images", "labels")), tmp_path / "images/two.nii.gz")
    cases = read_layout(tmp_path).cases
    assert [case.id for case in cases] == ["one", "two"]
    assert cases[1].label == tmp_path / "labels" / "two.nii.gz"


def test_the_same_case_twice_is_refused(tmp_path: Path) -> None:
    touch(*(tmp_path / "images" / name for name in ("one.nii", "one.nii.gz")), tmp_path / "labels/one.nii")
    with pytest.raises(ValueError, match=r"one\.nii.*are the same case"):
        read_layout(tmp_path)


def test_no_folder_no_layout_and_the_wrong_layout_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not a folder"):
        read_layout(tmp_path / "absent")
    with pytest.raises(ValueError, match=r"no labelled scans in a known layout.*segmentations"):
        read_layout(tmp_path)
    write_pairs(tmp_path, ["x"])
    with pytest.raises(ValueError, match="in the decathlon layout"):
        read_layout(tmp_path, "decathlon")
    (tmp_path / "empty" / "images").mkdir(parents=True)
    (tmp_path / "empty" / "labels").mkdir()
    with pytest.raises(ValueError, match="no case in it"):
        read_layout(tmp_path / "empty")


def test_the_modality_is_asked_for_when_nothing_tells_it() -> None:
    def cases(*modalities: str | None) -> list[RawCase]:
        return [RawCase(str(number), Path("x.nii"), modality=name) for number, name in enumerate(modalities)]

    assert dataset_modality(cases("ct", "ct"), None) == "ct"
    assert dataset_modality(cases(None), "us") == "us"
    with pytest.raises(ValueError, match="give --modality"):
        dataset_modality(cases("ct", None), None)
    with pytest.raises(ValueError, match="several modalities"):
        dataset_modality(cases("ct", "mr"), None)
