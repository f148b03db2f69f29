"""Nobody is on two sides, whatever comes in."""

from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sam3d_objects.dataset.patients import assign_patients
from sam3d_objects.dataset.split import merge_split, split_patients

PATIENTS = st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=60)
FRACTIONS = st.tuples(st.floats(0, 0.45), st.floats(0, 0.45))


@settings(deadline=None)
@given(PATIENTS, FRACTIONS, st.integers(0, 3), st.randoms())
def test_a_split_is_a_partition_that_does_not_depend_on_the_order(
    patients: list[str], fractions: tuple[float, float], seed: int, random: Random
) -> None:
    val, test = fractions
    split = split_patients(patients, val, test, seed)
    assert split.keys() == set(patients)
    assert set(split.values()) <= {"train", "val", "test"}
    shuffled = patients * 2
    random.shuffle(shuffled)
    assert split_patients(shuffled, val, test, seed) == split
    assert "train" in split.values()
    if len(split) >= 3:
        expected = {"train"} | ({"val"} if val > 0 else set()) | ({"test"} if test > 0 else set())
        assert set(split.values()) == expected


@settings(deadline=None)
@given(st.sets(st.integers(1, 400), min_size=2, max_size=80), st.integers(0, 5))
def test_the_two_sides_of_a_person_stay_together(numbers: set[int], seed: int) -> None:
    ids = [f"hippocampus_{number:03d}" for number in sorted(numbers)]
    patients, _ = assign_patients(ids, "auto")
    split = split_patients(patients.values(), 0.1, 0.2, seed)
    side = {int(name[-3:]): split[patients[name]] for name in ids}
    for number in numbers:
        if number % 2 and number + 1 in numbers:
            assert side[number] == side[number + 1]


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (56, {"train": 39, "val": 6, "test": 11}),
        (10, {"train": 7, "val": 1, "test": 2}),
        (3, {"train": 1, "val": 1, "test": 1}),
        (2, {"train": 1, "test": 1}),
        (1, {"train": 1}),
    ],
)
def test_the_numbers_of_patients(count: int, expected: dict[str, int]) -> None:
    assert Counter(split_patients(map(str, range(count)), 0.1, 0.2, 0).values()) == expected


def test_another_seed_is_another_split() -> None:
    names = list(map(str, range(30)))
    assert split_patients(names, 0.1, 0.2, 0) != split_patients(names, 0.1, 0.2, 1)


def test_a_test_folder_of_its_own_may_share_nobody() -> None:
    assert merge_split({"a": "train", "b": "val"}, ["c"]) == {"a": "train", "b": "val", "c": "test"}
    with pytest.raises(ValueError, match="1 patients would be in training and in the test folder: b"):
        merge_split({"a": "train", "b": "val"}, ["b", "c"])
