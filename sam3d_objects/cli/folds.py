"""`sam3d-med folds`: a prepared data set as several, for scores that every patient has a part in."""

from pathlib import Path
from typing import Annotated


def folds(
    data_root: Annotated[Path, "prepared data set (from `sam3d-med prepare`)"],
    out: Annotated[Path, "folder for fold0, fold1, ...; made if it is not there"],
    folds: Annotated[int, "how many; each tests 1 / FOLDS of the patients [5]"] = 5,
    val_fraction: Annotated[float, "share of the other patients that validates [0.1]"] = 0.1,
    seed: Annotated[int, "seed of who is in which fold [0]"] = 0,
) -> None:
    """Cut a prepared data set into folds by patient: every patient tests exactly once.

    Each fold is a prepared data set that every command takes. Scans, surfaces and training targets are not copied:
    the folds link to those of DATA_ROOT, which must stay where it is beside them.

        sam3d-med folds --data_root data/hippocampus --folds 5 --out data/hippocampus_folds
        sam3d-med train --data_root data/hippocampus_folds/fold0 --checkpoint_dir runs/fold0
    """
    from sam3d_objects.dataset.folds import FoldOptions, make_folds

    make_folds(data_root, out, FoldOptions(folds, val_fraction, seed))
