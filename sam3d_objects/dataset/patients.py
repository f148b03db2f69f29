"""Which patient a case belongs to. Splits are by patient, so this decides what may never meet.

Rules, as text:

- ``case``: every case is a patient.
- ``pairs``: the cases numbered 2k-1 and 2k are one patient (the number at the end of the case's name).
- ``re:REGEX``: what the first group of the pattern finds in the case's name, e.g. ``re:^(sub-\\d+)_``.
- ``csv:FILE:COLUMN``: a table whose first column names the cases and whose column COLUMN names the patients.
- ``auto``: ``pairs`` for the Decathlon's hippocampi (left and right side of one person: the volumes of 2k-1
  and 2k correlate at 0.91, those of other neighbours at 0.06), else ``case``.
"""

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

from sam3d_objects.dataset.layouts.raw import stem

_HIPPOCAMPUS = re.compile(r"hippocampus_\d{3}")
_RULES = "auto, case, pairs, re:REGEX or csv:FILE:COLUMN"


def assign_patients(case_ids: Sequence[str], rule: str) -> tuple[dict[str, str], str]:
    """Patient id of every case, and one sentence that says by which rule.

    Raises:
        ValueError: an unknown rule, a pattern that does not match a case, a case that the table does not
            have.
    """
    if rule == "auto":
        if case_ids and all(_HIPPOCAMPUS.fullmatch(name) for name in case_ids):
            patients, _ = assign_patients(case_ids, "pairs")
            return patients, (
                "patients: hippocampus 2k-1 and 2k of the Decathlon are one person, and are kept on one side"
            )
        return _each(case_ids), "patients: each case is taken as a patient of its own (--patient_rule says otherwise)"
    if rule == "case":
        return _each(case_ids), "patients: each case is a patient"
    if rule == "pairs":
        return {name: _pair(name) for name in case_ids}, "patients: cases 2k-1 and 2k are one person"
    kind, _, rest = rule.partition(":")
    if kind == "re" and rest:
        return _by_pattern(case_ids, rest), f"patients: by the pattern {rest}"
    if kind == "csv" and ":" in rest:
        file, _, column = rest.rpartition(":")
        return _by_column(case_ids, Path(file), column), f"patients: by the column {column} of {file}"
    raise ValueError(f"unknown patient rule {rule!r}; expected {_RULES}")


def _each(case_ids: Sequence[str]) -> dict[str, str]:
    return {name: name for name in case_ids}


def _pair(name: str) -> str:
    match = re.fullmatch(r"(.*?)(\d+)", name)
    if match is None:
        raise ValueError(f"the patient rule 'pairs' needs a number at the end of each case's name, got {name!r}")
    first = (int(match[2]) - 1) // 2 * 2 + 1
    return f"{match[1]}{first}+{first + 1}"  # without leading zeros: 9 and 10 are a pair too


def _by_pattern(case_ids: Sequence[str], pattern: str) -> dict[str, str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"the patient pattern {pattern!r} is not a regular expression: {error}") from error
    if compiled.groups == 0:
        raise ValueError(f"the patient pattern {pattern!r} needs a group, e.g. ^(sub-[0-9]+)_")
    patients = {}
    for name in case_ids:
        match = compiled.search(name)
        if match is None or not match[1]:
            raise ValueError(f"the patient pattern {pattern!r} finds no patient in the case {name!r}")
        patients[name] = match[1]
    return patients


def _by_column(case_ids: Sequence[str], path: Path, column: str) -> dict[str, str]:
    if not path.is_file():
        raise ValueError(f"the patient table {path} does not exist")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"the patient table {path} is not UTF-8 text ({error}); save it as CSV UTF-8") from error
    delimiter = max(",;\t", key=text.partition("\n")[0].count)  # TotalSegmentator's meta.csv has semicolons
    reader = csv.DictReader(io.StringIO(text), delimiter=delimiter)
    names = list(reader.fieldnames or [])
    if column not in names:
        raise ValueError(f"{path} has no column {column!r}; it has {', '.join(names) or 'none'}")
    table: dict[str, str] = {}
    for row in reader:
        # Blanks at the end of a cell must not make two patients of one.
        name, patient = stem(Path((row[names[0]] or "").strip())), (row[column] or "").strip()
        if table.setdefault(name, patient) != patient:
            raise ValueError(
                f"{path}: the case {name} has two patients in the column {column}, {table[name]} and {patient}"
            )
    missing = [name for name in case_ids if not table.get(name)]
    if missing:
        raise ValueError(f"{path}: no {column} for the cases {', '.join(missing)} (looked up in column {names[0]})")
    return {name: table[name] for name in case_ids}
