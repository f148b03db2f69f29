"""Structures by value, by name and as unions; what does not exist is named beside what does."""

from pathlib import Path

import pytest

from sam3d_objects.dataset.layouts import RawCase, RawDataset, read_layout
from sam3d_objects.dataset.structures import Structure, check_found, parse_structures, resolve
from tests.dataset.scans import write_pairs

VALUES = RawDataset(
    "decathlon",
    Path("set"),
    (RawCase("a", Path("a.nii"), Path("l.nii")),),
    {"Anterior": 1, "Posterior": 2, "Tail": 3},
)
FILES = RawDataset(
    "totalsegmentator",
    Path("set"),
    (RawCase("a", Path("a.nii"), organs={"liver": Path("l"), "kidney_left": Path("k")}),),
)


def test_commas_part_structures_and_plus_joins_labels() -> None:
    assert parse_structures("1+2,3") == (Structure("1+2", ("1", "2")), Structure("3", ("3",)))
    assert parse_structures(" hippocampus = 1 + 2 ") == (Structure("hippocampus", ("1", "2")),)


@pytest.mark.parametrize("text", ["", "1+", "1,,2", "=1", "a/b=1"])
def test_what_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"cannot read the structure|cannot be called that"):
        parse_structures(text)


def test_one_name_for_two_structures_is_refused() -> None:
    with pytest.raises(ValueError, match="'x' is asked for twice"):
        parse_structures("x=1,x=2")


def test_values_and_names_mean_the_same_labels() -> None:
    assert resolve("1+2,tail=3", VALUES) == {"1+2": (1, 2), "tail": (3,)}
    assert resolve("anterior+Posterior", VALUES) == {"anterior+Posterior": (1, 2)}
    assert resolve("both=liver+kidney_left", FILES) == {"both": ("liver", "kidney_left")}


def test_without_a_choice_every_label_is_a_structure(tmp_path: Path) -> None:
    assert resolve(None, VALUES) == {"Anterior": (1,), "Posterior": (2,), "Tail": (3,)}
    assert resolve(None, FILES) == {"kidney_left": ("kidney_left",), "liver": ("liver",)}
    assert resolve(None, read_layout(write_pairs(tmp_path, ["x"]))) == {"1": (1,)}


@pytest.mark.parametrize(
    ("raw", "text", "message"),
    [
        (VALUES, "1+7", r"label value '7' is in no case.*available: 1 \(Anterior\), 2 \(Posterior\)"),
        (VALUES, "0", "label value '0'"),
        (VALUES, "Posteriour", r"'Posteriour'.*Anterior \(1\).*Did you mean 'Posterior"),
        (FILES, "livr", r"organ 'livr'.*available: kidney_left, liver\. Did you mean 'liver'"),
        (FILES, "1", "organ '1' is in no case"),
    ],
)
def test_labels_that_do_not_exist_are_named_with_those_that_do(raw: RawDataset, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resolve(text, raw)


def test_a_name_where_labels_have_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="have no names"):
        resolve("liver", read_layout(write_pairs(tmp_path, ["x"])))


def test_a_value_that_no_label_file_holds_is_found_out_later() -> None:
    check_found({"a": (1, 2)}, {1, 2, 3})
    with pytest.raises(ValueError, match=r"label value '9' is in no case.*available: 1, 2"):
        check_found({"a": (1, 9)}, {1, 2})
