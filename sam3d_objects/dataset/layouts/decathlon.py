"""The Medical Segmentation Decathlon's layout: ``imagesTr/``, ``labelsTr/`` and ``dataset.json``.

nnU-Net's is the same but for its images' names, which end in the number of the channel: ``a_0000.nii.gz`` has the
labels ``a.nii.gz``.
"""

from collections.abc import Container
from pathlib import Path
from typing import Any

from sam3d_objects.dataset.layouts.raw import RawCase, RawDataset, modality_in, nifti_files, stem
from sam3d_objects.files import read_json


def detect(source: Path) -> bool:
    """Whether the folder has ``imagesTr`` and ``labelsTr``."""
    return (source / "imagesTr").is_dir() and (source / "labelsTr").is_dir()


def read(source: Path) -> RawDataset:
    """List the training pairs that dataset.json or the folders name (``imagesTs`` has no labels and is not
    read).

    Raises:
        ValueError: dataset.json is not JSON, or says that the images have several channels.
    """
    path = source / "dataset.json"
    description: dict[str, Any] = read_json(path) if path.is_file() else {}
    if not isinstance(description, dict):
        raise ValueError(f"{path} must hold a JSON object, got a {type(description).__name__}")
    channels = _channels(description)
    if len(channels) > 1:
        raise ValueError(
            f"{path} names {len(channels)} channels ({', '.join(channels)}), and one 3D image a case is needed. Copy "
            "one channel of each image to a folder of its own (of a 4D image nibabel.four_to_three(image)[0], of "
            "several files the one that ends in _0000), and list that channel alone in dataset.json"
        )
    modality = modality_in(" ".join(channels))
    pairs = _pairs(source, description)
    cases = tuple(RawCase(name, *pairs[name], modality=modality) for name in sorted(pairs))
    title = str(description.get("name", ""))
    return RawDataset("decathlon", source, cases, _label_names(path, description), title)


def _channels(description: dict[str, Any]) -> list[str]:
    channels = description.get("modality", description.get("channel_names", {}))
    return [str(name) for name in (channels.values() if isinstance(channels, dict) else [channels])]


def _pairs(source: Path, description: dict[str, Any]) -> dict[str, tuple[Path, Path]]:
    """Case -> image and label: those that dataset.json lists, and what else lies there, whatever the names."""
    listed = _listed(source, description)
    whole = {name: pair for name, pair in listed.items() if all(path.is_file() for path in pair)}
    taken = {path for pair in whole.values() for path in pair}
    present = {name: pair for name, pair in _present(source).items() if taken.isdisjoint(pair)}
    return listed | present | whole


def _listed(source: Path, description: dict[str, Any]) -> dict[str, tuple[Path, Path]]:
    pairs = {}
    for item in description.get("training", []):
        if isinstance(item, dict) and "image" in item and "label" in item:
            label = source / str(item["label"])
            pairs[stem(label)] = (source / str(item["image"]), label)
    return pairs


def _present(source: Path) -> dict[str, tuple[Path, Path]]:
    """Pairs by equal stems; the missing half of a pair gets the path where it should be."""
    images, labels = nifti_files(source / "imagesTr"), nifti_files(source / "labelsTr")
    images = {_without_channel(name, labels): path for name, path in images.items()}
    return {
        name: (
            images.get(name, source / "imagesTr" / f"{name}.nii.gz"),
            labels.get(name, source / "labelsTr" / f"{name}.nii.gz"),
        )
        for name in images.keys() | labels.keys()
    }


def _without_channel(name: str, labels: Container[str]) -> str:
    """The case of an image: nnU-Net's a_0000 is the image of the labels a."""
    case = name.removesuffix("_0000")
    return case if name not in labels and case in labels else name


def _label_names(path: Path, description: dict[str, Any]) -> dict[str, int]:
    """Name -> value, without the background; dataset.json has value -> name, nnU-Net's name -> value."""
    names = {}
    for key, value in dict(description.get("labels", {})).items():
        number, name = (key, value) if str(key).isdigit() else (value, key)
        if not str(number).isdigit():
            raise ValueError(f"{path}: the label {key!r}: {value!r} has no whole number in it")
        if int(number) != 0:
            names[str(name)] = int(number)
    return names
