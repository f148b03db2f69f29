"""`sam3d-med compare`: two evaluations of the same cases, system by system."""

from pathlib import Path
from typing import Annotated


def compare(
    first: Annotated[Path, "folder of an evaluation"],
    second: Annotated[Path, "folder of another evaluation of the same cases"],
    system: Annotated[str, "a system of the first; default: each that both have"] = "",
    against: Annotated[
        str, "the system of the second that it is compared with; default: the one of the same name"
    ] = "",
) -> None:
    """Compare two evaluations on the same cases: first minus second, with intervals over patients.

    Such as two adapters, or one with and without a stage:

        sam3d-med compare --first runs/rank16/evaluation --second runs/rank4/evaluation
        sam3d-med compare --first runs/rank16/evaluation --second runs/rank4/evaluation --system adapted

    Research use, not for diagnosis.
    """
    print(comparison(first, second, compared_systems(first, second, system, against)))


def compared_systems(first: Path, second: Path, system: str, against: str) -> list[tuple[str, str]]:
    """Return the pairs of systems, of the first and of the second folder, that are compared.

    Raises:
        ValueError: one is given without the other, or the folders share no system.
        FileNotFoundError: a folder holds no rows.csv.
    """
    from sam3d_objects.evaluation import read_rows

    if against and not system:
        raise ValueError(f"--against {against} needs --system, the system that it is compared with")
    if system:
        return [(system, against or system)]
    names = [list(dict.fromkeys(row.system for row in read_rows(folder / "rows.csv"))) for folder in (first, second)]
    both = [(name, name) for name in names[0] if name in names[1]]
    if not both:
        raise ValueError(
            f"{first} has {', '.join(names[0])}, {second} has {', '.join(names[1])}: none in common; say which are "
            "compared with --system and --against"
        )
    return both


def comparison(first: Path, second: Path, pairs: list[tuple[str, str]]) -> str:
    """Return the Markdown of paired differences, first minus second.

    Raises:
        ValueError: a folder lacks a system, or the systems were not judged on the same cases.
    """
    from sam3d_objects.evaluation.pooled import differences_table, pooled_differences, rows_as

    rows, labels = {}, []
    for system, against in pairs:
        names = (f"{system} of {first}", f"{against} of {second}")
        for name, folder, own in zip(names, (first, second), (system, against), strict=True):
            rows[name] = rows_as(folder / "rows.csv", {own: name})
        labels.append(names)
    differences = pooled_differences(rows, labels)
    missing = [pair for pair in labels if " - ".join(pair) not in differences]
    if missing:
        one, other = missing[0]
        shared = {row.case_key for row in rows[one]} & {row.case_key for row in rows[other]}
        raise ValueError(
            f"{one} ({len(rows[one])} cases) and {other} ({len(rows[other])} cases) were not judged on the same cases, "
            f"{len(shared)} are in common: evaluate both with the same data set, split, organs and seed"
        )
    cases = len(next(iter(rows.values())))
    patients = len({row.patient for row in next(iter(rows.values()))})
    head = f"{cases} cases of {patients} patients; means of first minus second, 95 % bootstrap intervals over patients."
    return f"{head}\n\n{differences_table(differences)}"
