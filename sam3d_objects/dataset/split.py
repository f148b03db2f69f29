"""Who trains, who validates, who tests: by patient, never by case or slice."""

import hashlib
from collections.abc import Iterable

SPLITS = ("train", "val", "test")


def split_patients(patients: Iterable[str], val_fraction: float, test_fraction: float, seed: int) -> dict[str, str]:
    """Assign each patient a side: 'train', 'val' or 'test'.

    Patients are ordered by a hash of the seed and their id, so neither the order in which they come nor the
    number of their cases matters. Every side gets the nearest whole number of patients, at least one if its
    fraction is above 0 and there are enough: of two patients one trains and one is on the larger other side;
        one alone trains.

    Args:
        patients: patient ids; repeated ones count once.
        val_fraction: share of 'val', in [0, 1).
        test_fraction: share of 'test', in [0, 1).
        seed: another seed, another split.
    """
    order = sorted(set(patients), key=lambda patient: _hash(f"{seed}:{patient}"))
    count = len(order)
    test, val = _share(count, test_fraction), _share(count, val_fraction)
    while test + val >= count and test + val > 0:
        if val > test or (val == test and val_fraction <= test_fraction):
            val -= 1
        else:
            test -= 1
    sides = ["test"] * test + ["val"] * val + ["train"] * (count - test - val)
    return dict(sorted(zip(order, sides, strict=True)))


def merge_split(split: dict[str, str], test_patients: Iterable[str]) -> dict[str, str]:
    """Add the patients of a test folder of its own.

    Raises:
        ValueError: a patient would be on both sides.
    """
    others = sorted(set(test_patients))
    both = [patient for patient in others if patient in split]
    if both:
        raise ValueError(
            f"{len(both)} patients would be in training and in the test folder: {', '.join(both[:10])}"
            f"{' ...' if len(both) > 10 else ''}. Remove them from one folder; if they are different people, "
            "rename the cases or give a --patient_rule that tells them apart"
        )
    return split | {patient: "test" for patient in others}


def _share(count: int, fraction: float) -> int:
    return 0 if fraction == 0 else max(1, round(count * fraction))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
