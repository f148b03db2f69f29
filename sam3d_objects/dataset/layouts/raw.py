"""What every layout yields: which files belong to a case, before any of them is opened."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sam3d_objects.files import nearest

_SUFFIXES = (".nii.gz", ".nii")
_MODALITY_WORDS = {
    "ct": "ct",
    "cta": "ct",
    "cect": "ct",
    "mr": "mr",
    "mri": "mr",
    "t1": "mr",
    "t1w": "mr",
    "t2": "mr",
    "t2w": "mr",
    "flair": "mr",
    "us": "us",
    "ultrasound": "us",
}


@dataclass(frozen=True)
class RawCase:
    """One scan and its labels on disk; a path may point to nothing, which reading it then says.

    Attributes:
        id: name of the case, unique in its data set.
        image: the scan.
        label: one file of label values, or None when there is a mask file per organ.
        organs: organ name -> mask file (any value above 0 is the organ).
        modality: 'ct', 'mr', 'us' or None when nothing tells it.
    """

    id: str
    image: Path
    label: Path | None = None
    organs: Mapping[str, Path] = field(default_factory=dict)
    modality: str | None = None


@dataclass(frozen=True)
class RawDataset:
    """The cases of a folder and what its layout says about all of them.

    Attributes:
        layout: name of the layout.
        source: the folder.
        cases: sorted by id.
        label_names: label name -> label value, where the layout names them.
        title: the data set's own name, or ''.
    """

    layout: str
    source: Path
    cases: tuple[RawCase, ...]
    label_names: Mapping[str, int] = field(default_factory=dict)
    title: str = ""

    def __post_init__(self) -> None:
        ids = [case.id for case in self.cases]
        if not ids:
            raise ValueError(f"{self.source} has the {self.layout} layout but no case in it")
        twice = sorted({name for name in ids if ids.count(name) > 1})
        if twice:
            raise ValueError(
                f"{self.source}: several files for the case {', '.join(twice)}; rename or remove one of each"
            )

    @property
    def has_label_values(self) -> bool:
        """Whether structures are label values of one file (else one mask file per organ)."""
        return self.cases[0].label is not None

    @property
    def organ_names(self) -> tuple[str, ...]:
        """Names of all mask files, sorted; empty when structures are label values."""
        return tuple(sorted({name for case in self.cases for name in case.organs}))


def is_nifti(path: Path) -> bool:
    """Whether a path is a visible .nii or .nii.gz file (macOS leaves ._X files beside the real ones)."""
    return path.name.endswith(_SUFFIXES) and not path.name.startswith(".") and path.is_file()


def nifti_files(folder: Path) -> dict[str, Path]:
    """The NIfTI files of a folder, stem -> path, sorted by stem.

    Raises:
        ValueError: X.nii and X.nii.gz lie side by side.
    """
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if is_nifti(path):
            name = stem(path)
            if name in files:
                raise ValueError(f"{files[name]} and {path} are the same case; remove one")
            files[name] = path
    return files


def stem(path: Path) -> str:
    """The file's name without .nii or .nii.gz; a name may have other dots in it, as a DICOM UID has."""
    for suffix in _SUFFIXES:
        if path.name.endswith(suffix):
            return path.name[: -len(suffix)]
    return path.name


def modality_in(text: str) -> str | None:
    """The modality that a file name or description names as a word of its own, or None."""
    words = re.split(r"[^a-z0-9]+", text.lower())
    found = {_MODALITY_WORDS[word] for word in words if word in _MODALITY_WORDS}
    return found.pop() if len(found) == 1 else None


def dataset_modality(cases: Iterable[RawCase], asked: str | None) -> str:
    """The one modality of a data set: the one asked for, else the one that all cases agree on.

    Raises:
        ValueError: the cases do not tell, or tell different ones.
    """
    if asked is not None:
        return asked
    told = {case.modality for case in cases}
    if len(told) == 1 and (modality := told.pop()) is not None:
        return modality
    if None in told:
        raise ValueError(
            "neither dataset.json nor the file names tell whether these are CT, MR or ultrasound scans; "
            "give --modality ct, mr or us"
        )
    raise ValueError(
        f"the scans are of several modalities ({', '.join(sorted(filter(None, told)))}); "
        "give --modality to take those of one"
    )


def unknown(kind: str, name: str, available: Iterable[str]) -> ValueError:
    """The error for a label that does not exist, naming those that do."""
    names = list(available)
    listed = ", ".join(names) if names else "none"
    return ValueError(f"{kind} {name!r} is in no case of this data set; available: {listed}.{nearest(name, names)}")
