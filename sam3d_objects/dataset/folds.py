"""Folds: a prepared data set as several, so that every patient tests exactly once."""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from sam3d_objects.dataset.manifest import FILE_NAME, Manifest
from sam3d_objects.dataset.split import SPLITS, split_patients
from sam3d_objects.files import write_json

RECORD_FILE = "folds.json"
_CASES, _TARGETS = "cases", "targets"


@dataclass(frozen=True)
class FoldOptions:
    """How a data set is cut.

    Args:
        folds: how many; each tests 1 / folds of the patients.
        val_fraction: share of the other patients that validates; the nearest whole number, at least one if above 0.
        seed: of the order in which patients are dealt out.

    Raises:
        ValueError: fewer than two folds, or a share that is not in [0, 1).
    """

    folds: int = 5
    val_fraction: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.folds < 2:
            raise ValueError(f"folds must be at least 2, got {self.folds}")
        if not 0 <= self.val_fraction < 1:
            raise ValueError(f"val_fraction must be at least 0 and below 1, got {self.val_fraction}")


def fold_splits(patients: Iterable[str], options: FoldOptions) -> list[dict[str, str]]:
    """The split of each fold: patient -> 'train', 'val' or 'test'.

    Patients are ordered by a hash of the seed and their id and dealt out in turn, so folds differ by one patient at
    most, and neither the order in which patients come nor the number of their cases matters. Another hash in each
    fold chooses who validates among those who do not test.

    Args:
        patients: patient ids; repeated ones count once.
        options: see there.

    Raises:
        ValueError: fewer patients than folds.
    """
    people = set(patients)
    if len(people) < options.folds:
        raise ValueError(f"{options.folds} folds need as many patients at least, got {len(people)}: ask for fewer")
    order = sorted(people, key=lambda name: hashlib.sha256(f"fold:{options.seed}:{name}".encode()).hexdigest())
    splits = []
    for number in range(options.folds):
        tests = set(order[number :: options.folds])
        others = split_patients(people - tests, options.val_fraction, 0.0, options.seed + 1 + number)
        splits.append(dict(sorted((others | dict.fromkeys(tests, "test")).items())))
    return splits


def make_folds(data_root: Path, out: Path, options: FoldOptions, say: Callable[[str], None] = print) -> list[Path]:
    """Make `out`/fold0, fold1, ... of a prepared data set, each a prepared data set with a split of its own.

    Cases and targets stay where they are: a fold links to them, and where links cannot be made shares their files or
    copies them. Targets are kept by their contents, so what one fold makes serves all. Killed and called again, or
    called twice, it gives the same folds.

    Args:
        data_root: the prepared folder; its own split is not looked at.
        out: folder of the folds; made if it is not there.
        options: see there.
        say: called with each line of the report.

    Returns:
        the folders of the folds.

    Raises:
        ValueError: no prepared folder, fewer patients than folds, or `out` holds other folds.
        OSError: it cannot be written.
    """
    manifest = Manifest.load(data_root)
    splits = fold_splits(manifest.split, options)
    folds = [out / f"fold{number}" for number in range(options.folds)]
    manifests = [replace(manifest, split=split) for split in splits]
    _refuse_others(out, folds, manifests)
    record = {
        "data_root": str(data_root),
        "fingerprint": manifest.fingerprint,
        "folds": options.folds,
        "val_fraction": options.val_fraction,
        "seed": options.seed,
    }
    write_json(out / RECORD_FILE, record)
    (data_root / _TARGETS).mkdir(exist_ok=True)
    for fold, of_fold in zip(folds, manifests, strict=True):
        shared = [Path(_TARGETS), *(Path(_CASES) / case.id for case in manifest.cases)]
        for name in shared:
            share(data_root / name, fold / name)
        if not (fold / FILE_NAME).is_file():
            of_fold.save(fold)
        counts = {side: sum(split == side for split in of_fold.split.values()) for side in SPLITS}
        say(f"{fold}: patients: " + ", ".join(f"{count} {side}" for side, count in counts.items()))
    if not all("val" in split.values() for split in splits):
        say("CAUTION: no patient is left for val")
    return folds


def share(source: Path, destination: Path) -> None:
    """Make `destination` the folder `source` as well: a relative link, or its files linked or copied.

    What is there already stays.
    """
    if destination.is_dir():
        return
    if destination.is_symlink():  # to where the source once was
        destination.unlink()
    destination.parent.mkdir(parents=True, exist_ok=True)
    # Relative to where the folders really are, so that both can be moved together.
    target = os.path.relpath(source.resolve(), destination.parent.resolve())
    try:
        destination.symlink_to(target, target_is_directory=True)
    except (OSError, NotImplementedError):
        unfinished = destination.with_name(f".{destination.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(source, unfinished, copy_function=_link_or_copy)
        os.replace(unfinished, destination)


def _link_or_copy(source: str, destination: str) -> str:
    try:
        os.link(source, destination)
    except (OSError, NotImplementedError):
        shutil.copy2(source, destination)
    return destination


def _refuse_others(out: Path, folds: list[Path], manifests: list[Manifest]) -> None:
    """Refuse a folder with folds of other patients or options: they would be taken for these."""
    wanted = {fold: manifest.fingerprint for fold, manifest in zip(folds, manifests, strict=True)}
    for fold in sorted(out.glob("fold*")):
        if (fold / FILE_NAME).is_file() and Manifest.load(fold).fingerprint != wanted.get(fold):
            raise ValueError(
                f"{fold} was made of other data or with other options; choose another folder, or remove {out} first"
            )
