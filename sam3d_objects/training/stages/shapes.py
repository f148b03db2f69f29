"""The shapes and patients of a stage: which organs (and warps of them) it learns, and on which it is validated."""

import dataclasses
from typing import Any

from sam3d_objects.dataset import Sample, TS_SAM3D_Dataset
from sam3d_objects.mesh import Mesh
from sam3d_objects.training.validation import ValidationSlices

ShapeKey = tuple[str, str, int]  # case, organ, variant


def shape_name(key: ShapeKey) -> str:
    """Return `case/organ/variant`."""
    return "/".join(map(str, key))


def sample_name(sample: Sample) -> str:
    """Return `case/organ/plane/slice` of a sample, with its variant where it is warped."""
    name = f"{sample.case}/{sample.organ}/{sample.plane_name}/{sample.slice_index}"
    return f"{name}/variant {sample.variant}" if sample.variant else name


class StageShapes:
    """What a stage is trained and validated on.

    Args:
        train: samples of training patients.
        validation: slices of validation patients, or None.

    Raises:
        ValueError: a patient is on both sides.
    """

    def __init__(self, train: TS_SAM3D_Dataset, validation: ValidationSlices | None) -> None:
        self.train, self.validation = train, validation
        both = patients_of(train) & patients_of(validation.dataset) if validation else set()
        if both:
            raise ValueError(f"patients both in training and in validation: {', '.join(sorted(both))}")

    @property
    def keys(self) -> list[ShapeKey]:
        """Every training organ with its variants, then the validation organs as they are."""
        train = [(*pair, variant) for pair in self.train.pairs for variant in range(self.train.variants)]
        return train + [(case, organ, 0) for case, organ in self._validation_pairs]

    def mesh_object(self, key: ShapeKey) -> Mesh:
        """Return the (warped) organ's surface in object coordinates."""
        dataset = self._dataset(key)
        mesh = dataset.geometry(*key)
        return Mesh(dataset.frame(*key).to_object(mesh.vertices), mesh.faces)

    def size_mm(self, key: ShapeKey) -> float:
        """Return the longest side of the (warped) organ's box, mm: what 1 is in object coordinates."""
        return self._dataset(key).frame(*key).size_mm

    def counts(self) -> dict[str, str]:
        """Return, for people, the patients, organs and slices of both sides."""
        sides: dict[str, tuple[TS_SAM3D_Dataset, int]] = {"training": (self.train, len(self.train))}
        if self.validation:
            sides["validation"] = (self.validation.dataset, len(self.validation))
        return {
            side: f"{len(patients_of(dataset))} patients, {len(dataset.pairs)} organs, {slices} slices an epoch"
            for side, (dataset, slices) in sides.items()
        }

    def record(self) -> dict[str, Any]:
        """Return, as JSON, what makes the samples these samples."""
        train = self.train
        return {
            "fingerprint": train.manifest.fingerprint,
            "organs": list(train.organs),
            "planes": list(train.planes),
            "variants": train.variants,
            "slices_per_plane": train.slices_per_plane,
            "allow_mirror": train.allow_mirror,
            "augment": dataclasses.asdict(train.augment) if train.augment else None,
            "seed": train.seed,
            "validation_slices": len(self.validation) if self.validation else 0,
        }

    @property
    def _validation_pairs(self) -> list[tuple[str, str]]:
        return list(self.validation.dataset.pairs) if self.validation else []

    def _dataset(self, key: ShapeKey) -> TS_SAM3D_Dataset:
        return self.validation.dataset if self.validation and key[:2] in self._validation_pairs else self.train


def patients_of(dataset: TS_SAM3D_Dataset) -> set[str]:
    """Return the patients whose organs a data set's samples show."""
    patient_of = {entry.id: entry.patient for entry in dataset.manifest.cases}
    return {patient_of[case] for case, _ in dataset.pairs}
