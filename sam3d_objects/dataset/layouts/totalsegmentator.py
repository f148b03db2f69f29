"""TotalSegmentator: ``sXXXX/ct.nii.gz`` (or ``mri.nii.gz``) and ``sXXXX/segmentations/<organ>.nii.gz``."""

from pathlib import Path

from sam3d_objects.dataset.layouts.raw import RawCase, RawDataset, nifti_files

_SCANS = {"ct": "ct", "mri": "mr", "mr": "mr"}  # file stem -> modality


def detect(source: Path) -> bool:
    """Whether the folder, or a folder in it, has a ``segmentations`` folder."""
    return any((folder / "segmentations").is_dir() for folder in _candidates(source))


def read(source: Path) -> RawDataset:
    """List the cases: folders with a scan or with segmentations (a missing half is an error later)."""
    cases = [_case(folder) for folder in _candidates(source) if _is_case(folder)]
    return RawDataset("totalsegmentator", source, tuple(cases))


def _candidates(source: Path) -> list[Path]:
    if (source / "segmentations").is_dir():
        return [source]
    return sorted(path for path in source.iterdir() if path.is_dir() and not path.name.startswith("."))


def _is_case(folder: Path) -> bool:
    return (folder / "segmentations").is_dir() or any(name in _SCANS for name in nifti_files(folder))


def _case(folder: Path) -> RawCase:
    scans = nifti_files(folder)
    found = [name for name in _SCANS if name in scans]
    if len(found) > 1:
        raise ValueError(f"{folder} has several scans ({', '.join(found)}); keep one in each case's folder")
    image = scans[found[0]] if found else folder / "ct.nii.gz"
    segmentations = folder / "segmentations"
    organs = nifti_files(segmentations) if segmentations.is_dir() else {}
    return RawCase(folder.name, image, organs=organs, modality=_SCANS[found[0]] if found else None)
