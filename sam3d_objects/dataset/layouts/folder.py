"""A plain folder of pairs.

Either ``images/`` and ``labels/`` with equal names, or ``X.nii.gz`` beside ``X_label.nii.gz`` or
``X_seg.nii.gz``.
"""

from pathlib import Path

from sam3d_objects.dataset.layouts.raw import RawCase, RawDataset, modality_in, nifti_files

_LABEL_ENDINGS = ("_label", "_seg")


def detect(source: Path) -> bool:
    """Whether there are images and labels, in two folders or side by side."""
    if (source / "images").is_dir() and (source / "labels").is_dir():
        return True
    return any(name.endswith(_LABEL_ENDINGS) for name in nifti_files(source))


def read(source: Path) -> RawDataset:
    """List the pairs; a missing half gets the path where it should be, and reading it is an error later."""
    if (source / "images").is_dir():
        images, labels = nifti_files(source / "images"), nifti_files(source / "labels")
        image_folder, label_folder, ending = source / "images", source / "labels", ""
    else:
        files = nifti_files(source)
        images = {name: path for name, path in files.items() if not name.endswith(_LABEL_ENDINGS)}
        labels = {_base(name): path for name, path in files.items() if name.endswith(_LABEL_ENDINGS)}
        image_folder, label_folder, ending = source, source, "_label"
    cases = []
    for name in sorted(images.keys() | labels.keys()):
        image = images.get(name, image_folder / f"{name}.nii.gz")
        label = labels.get(name, label_folder / f"{name}{ending}.nii.gz")
        cases.append(RawCase(name, image, label, modality=modality_in(name) or modality_in(source.name)))
    return RawDataset("folder", source, tuple(cases))


def _base(name: str) -> str:
    return name[: name.rindex("_")]
