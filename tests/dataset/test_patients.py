"""Who is whose scan: each rule, and what it refuses."""

from pathlib import Path

import pytest

from sam3d_objects.dataset.patients import assign_patients


def test_two_hippocampi_of_one_person_are_known() -> None:
    ids = ["hippocampus_003", "hippocampus_004", "hippocampus_005"]
    patients, sentence = assign_patients(ids, "auto")
    assert patients["hippocampus_003"] == patients["hippocampus_004"] == "hippocampus_3+4"
    assert patients["hippocampus_005"] == "hippocampus_5+6"
    assert "one person" in sentence


def test_otherwise_each_case_is_a_patient_and_it_is_said() -> None:
    patients, sentence = assign_patients(["a", "hippocampus_004"], "auto")
    assert patients == {"a": "a", "hippocampus_004": "hippocampus_004"}
    assert "each case" in sentence


def test_pairs_by_the_number_at_the_end() -> None:
    patients, _ = assign_patients(["s9", "s10", "s11"], "pairs")
    assert patients == {"s9": "s9+10", "s10": "s9+10", "s11": "s11+12"}
    with pytest.raises(ValueError, match="needs a number at the end"):
        assign_patients(["s9x"], "pairs")


def test_a_pattern() -> None:
    assert assign_patients(["sub-1_a", "sub-1_b", "sub-2_a"], "re:^(sub-[0-9]+)_")[0] == {
        "sub-1_a": "sub-1",
        "sub-1_b": "sub-1",
        "sub-2_a": "sub-2",
    }
    with pytest.raises(ValueError, match="finds no patient in the case 'x'"):
        assign_patients(["x"], "re:^(sub-[0-9]+)_")
    with pytest.raises(ValueError, match="needs a group"):
        assign_patients(["x"], "re:x")
    with pytest.raises(ValueError, match="not a regular expression"):
        assign_patients(["x"], "re:(")


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_column_of_a_table(tmp_path: Path, delimiter: str) -> None:
    rows = [["image_id", "age", "person"], ["s1.nii.gz", "40", "p1"], ["s2", "50", "p1"], ["s3", "60", ""]]
    table = tmp_path / "meta.csv"
    table.write_text("\n".join(delimiter.join(row) for row in rows) + "\n")
    assert assign_patients(["s1", "s2"], f"csv:{table}:person")[0] == {"s1": "p1", "s2": "p1"}
    with pytest.raises(ValueError, match="no person for the cases s3, s4"):
        assign_patients(["s1", "s3", "s4"], f"csv:{table}:person")
    with pytest.raises(ValueError, match="no column 'name'; it has image_id, age, person"):
        assign_patients(["s1"], f"csv:{table}:name")
    with pytest.raises(ValueError, match="does not exist"):
        assign_patients(["s1"], f"csv:{tmp_path / 'absent.csv'}:person")


def test_a_table_knows_names_with_dots_and_does_not_mind_blanks(tmp_path: Path) -> None:
    table = tmp_path / "meta.csv"
    table.write_text("uid;person\n1.2.840.5.nii.gz; p1\n1.2.840;p2\n1.2.840.6;p1 \n", encoding="utf-8")
    cases = ["1.2.840.5", "1.2.840", "1.2.840.6"]
    assert assign_patients(cases, f"csv:{table}:person")[0] == dict(zip(cases, ("p1", "p2", "p1"), strict=True))


def test_a_table_that_contradicts_itself_or_cannot_be_read_is_refused(tmp_path: Path) -> None:
    table = tmp_path / "meta.csv"
    table.write_text("name,person\ns1,p1\ns1.nii.gz,p2\n", encoding="utf-8")
    with pytest.raises(ValueError, match="the case s1 has two patients in the column person, p1 and p2"):
        assign_patients(["s1"], f"csv:{table}:person")
    table.write_bytes("name,person\ns1,Jürgen\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"meta\.csv is not UTF-8 text .*save it as CSV UTF-8"):
        assign_patients(["s1"], f"csv:{table}:person")


@pytest.mark.parametrize("rule", ["", "pair", "re:", "csv:table.csv"])
def test_an_unknown_rule_names_the_known_ones(rule: str) -> None:
    with pytest.raises(ValueError, match="expected auto, case, pairs, re:REGEX or csv:FILE:COLUMN"):
        assign_patients(["a"], rule)
