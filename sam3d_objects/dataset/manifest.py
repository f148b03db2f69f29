"""What a prepared folder holds: ``manifest.json``, written last, beside ``cases/<id>/``."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from sam3d_objects.dataset.split import SPLITS
from sam3d_objects.dataset.target_figures import TargetRecord
from sam3d_objects.files import read_json, write_json
from sam3d_objects.volume import Intensity

FORMAT = 1
FILE_NAME = "manifest.json"


@dataclass(frozen=True)
class OrganEntry:
    """One structure of one case.

    Attributes:
        voxels: size of the mask that was kept (its crumbs dropped).
        volume_mm3: of the mask.
        mesh_volume_mm3: of the surface.
        area_mm2: of the surface.
        box_vox: ((i, j, k) first, (i, j, k) last) voxel of the mask, native indices, both inside.
        box_mm: (low, high) corners of the surface's axis-aligned box, patient mm.
        notes: what was noticed and did not lead to an exclusion.
    """

    voxels: int
    volume_mm3: float
    mesh_volume_mm3: float
    area_mm2: float
    box_vox: tuple[tuple[int, int, int], tuple[int, int, int]]
    box_mm: tuple[tuple[float, float, float], tuple[float, float, float]]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Skipped:
    """Something that was left out: a case, or (with `organ`) one structure of it.

    Attributes:
        reason: 'cut', 'small', 'parts', 'absent', 'unreadable' or 'modality'.
        detail: the same in words.
    """

    case: str
    organ: str | None
    reason: str
    detail: str


@dataclass(frozen=True)
class CaseEntry:
    """One prepared case.

    Attributes:
        id: name of the case, and of its folder in ``cases/``.
        patient: whose scan it is.
        sources: source file, relative to its data set's folder -> SHA-256.
        native_shape: (I, J, K) of the whole scan.
        native_affine: 4x4, native voxel index -> RAS mm.
        crop_offset_vox: native index of the first voxel that was kept.
        shape: of what was kept.
        rounding: the largest error of a stored intensity (0 for whole numbers that fit 16 bits).
        organs: structure name -> facts; the order is that of the stored masks.
    """

    id: str
    patient: str
    sources: Mapping[str, str]
    native_shape: tuple[int, int, int]
    native_affine: tuple[tuple[float, ...], ...]
    crop_offset_vox: tuple[int, int, int]
    shape: tuple[int, int, int]
    rounding: float
    organs: Mapping[str, OrganEntry]


@dataclass(frozen=True)
class Manifest:
    """The contents of ``manifest.json``.

    Attributes:
        modality: 'ct', 'mr' or 'us'.
        window_hu, percentiles: how intensities become [0, 1] (see `Intensity`).
        field_of_view: 'mask_margin' (slices are cut to the mask plus `margin_mm`) or 'scan'.
        margin_mm: that margin.
        structures: structure name -> the labels (values or organ names) whose union it is.
        layout: of the source.
        source: the source folder, as given; `test_source` the test folder of its own, or None.
        patient_rule: one sentence on how patients were told apart.
        cases: the prepared cases, sorted by id.
        skipped: everything that was left out, with reasons.
        split: patient -> 'train', 'val' or 'test'.
        targets: stage -> how good the training targets are that were made last; not part of the fingerprint.
    """

    modality: str
    window_hu: tuple[float, float]
    percentiles: tuple[float, float]
    field_of_view: str
    margin_mm: float
    structures: Mapping[str, tuple[int | str, ...]]
    layout: str
    source: str
    test_source: str | None
    patient_rule: str
    cases: tuple[CaseEntry, ...]
    skipped: tuple[Skipped, ...]
    split: Mapping[str, str]
    format: int = field(default=FORMAT)
    targets: Mapping[str, TargetRecord] = field(default_factory=dict)

    @property
    def intensity(self) -> Intensity:
        """How raw intensities become [0, 1]."""
        return Intensity(self.modality, self.window_hu, self.percentiles)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of everything but where the source folders lie, and what was made of the data since."""
        content = asdict(self)
        del content["source"], content["test_source"], content["targets"]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def of_split(self, split: str) -> tuple[CaseEntry, ...]:
        """The cases of one side.

        Raises:
            ValueError: a side that does not exist, or one without patients.
        """
        if split not in SPLITS:
            raise ValueError(f"expected a split of {', '.join(SPLITS)}, got {split!r}")
        cases = tuple(case for case in self.cases if self.split[case.patient] == split)
        if not cases:
            counts = {name: sum(side == name for side in self.split.values()) for name in SPLITS}
            raise ValueError(
                f"the {split} split has no patients (patients: {counts}); prepare more patients, or set "
                "val_fraction and test_fraction"
            )
        return cases

    def case(self, case_id: str) -> CaseEntry:
        """One case by its id; a ValueError names it when it is not there."""
        for case in self.cases:
            if case.id == case_id:
                return case
        raise ValueError(f"no case {case_id!r} among the {len(self.cases)} prepared cases")

    def with_targets(self, stage: str, record: TargetRecord) -> "Manifest":
        """The same data with what is known of a stage's targets; what the same maker made before is kept."""
        known = self.targets.get(stage)
        return replace(self, targets={**self.targets, stage: record.joined(known) if known else record})

    def save(self, data_root: Path) -> None:
        """Write ``manifest.json`` into the folder, whole or not at all."""
        write_json(data_root / FILE_NAME, asdict(self) | {"fingerprint": self.fingerprint})

    @classmethod
    def load(cls, data_root: Path) -> "Manifest":
        """Read ``manifest.json``.

        Raises:
            ValueError: there is none, it is of another format, or it was changed by hand.
        """
        path = Path(data_root) / FILE_NAME
        if not path.is_file():
            raise ValueError(
                f"{data_root} is not a prepared data set (no {FILE_NAME}); run `sam3d-med prepare` first, or "
                "again if it was interrupted"
            )
        content = read_json(path)
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise ValueError(f"{path}: expected a manifest of format {FORMAT}; prepare the data set again")
        fingerprint = content.pop("fingerprint", None)
        content.setdefault("targets", {})  # manifests of earlier versions have none
        names = {item.name for item in fields(cls)}
        if content.keys() != names:
            raise ValueError(
                f"{path}: missing {sorted(names - content.keys())}, unknown "
                f"{sorted(content.keys() - names)}; prepare the data set again"
            )
        manifest = _from_json(content)
        if manifest.fingerprint != fingerprint:
            raise ValueError(f"{path} was changed after it was written; prepare the data set again")
        return manifest


def entry_from_json(content: Mapping[str, Any]) -> CaseEntry:
    """The case entry whose `asdict` went through JSON."""
    organs = {name: OrganEntry(**_tuples(facts)) for name, facts in content["organs"].items()}
    return CaseEntry(**(_tuples(content) | {"organs": organs}))


def _from_json(content: dict[str, Any]) -> Manifest:
    cases = tuple(entry_from_json(case) for case in content["cases"])
    skipped = tuple(Skipped(**item) for item in content["skipped"])
    structures = {name: tuple(terms) for name, terms in content["structures"].items()}
    targets = {stage: TargetRecord.from_json(record) for stage, record in content["targets"].items()}
    apart = {"cases", "skipped", "structures", "targets"}
    values = _tuples({key: content[key] for key in content.keys() - apart})
    return Manifest(**values, cases=cases, skipped=skipped, structures=structures, targets=targets)


def _tuples(content: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _tuple(value) for key, value in content.items()}


def _tuple(value: Any) -> Any:
    return tuple(_tuple(item) for item in value) if isinstance(value, list) else value
