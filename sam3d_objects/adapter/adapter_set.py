"""Adapters of several stages that work together: a folder of adapter folders, each named by its stage."""

import os
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from sam3d_objects.adapter.atomic import atomic_folder, recover_folder
from sam3d_objects.adapter.folder import load_adapter
from sam3d_objects.adapter.meta import InferenceContract
from sam3d_objects.adapter.record import NAMES, PEFT_CONFIG, RECORD, TENSORS, AdapterRecord, read_adapter
from sam3d_objects.files import nearest
from sam3d_objects.model import SAM3DObjects
from sam3d_objects.model.stages import STAGES, adapted_module, check_stage, stage_fingerprint

# What one mesh's slice is prepared by: all stages of a set must have been trained on slices of this kind.
_SHARED = ("field_of_view", "margin_mm", "modality", "window_hu", "percentiles")
_FILES = (TENSORS, PEFT_CONFIG, RECORD)


@dataclass(frozen=True)
class AdapterSet:
    """One adapter, or one of each of several stages.

    Attributes:
        folders: stage -> adapter folder, in the stages' order; at least one.
        records: stage -> what the adapter remembers.

    Raises:
        ValueError: no adapter at all, or adapters that were trained on slices prepared in different ways.
    """

    folders: Mapping[str, Path]
    records: Mapping[str, AdapterRecord]

    def __post_init__(self) -> None:
        if not self.records:
            raise ValueError(f"an adapter set has at least one of {', '.join(STAGES)}")
        contract = self.contract
        for stage, record in self.records.items():
            for name in _SHARED:
                ours, theirs = getattr(contract, name), getattr(record.meta.contract, name)
                if ours != theirs:
                    raise ValueError(
                        f"{self.folders[stage]}: its {name} is {theirs!r}, and that of {self.folders[self.stages[0]]} "
                        f"is {ours!r}; adapters of one set are trained on one data set"
                    )

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages that are adapted, in order."""
        return tuple(self.records)

    @property
    def contract(self) -> InferenceContract:
        """How the model is used: as the first stage's adapter says, for it is the one that draws the structure."""
        return self.records[self.stages[0]].meta.contract

    @property
    def organs(self) -> tuple[str, ...]:
        """What any of the adapters was trained on."""
        return tuple(dict.fromkeys(organ for record in self.records.values() for organ in record.meta.organs))

    @property
    def identity(self) -> str:
        """The hashes of all tensor files, which tell this set from any other."""
        return " ".join(f"{stage} {record.sha256}" for stage, record in self.records.items())

    def only(self, stages: Collection[str]) -> "AdapterSet":
        """Return the set without the adapters of other stages.

        Raises:
            ValueError: a stage that the set does not have, or none.
        """
        for stage in stages:
            check_stage(stage)
            if stage not in self.records:
                raise ValueError(f"there is no adapter of the stage {stage!r}, only of {', '.join(self.stages)}")
        kept = [stage for stage in self.stages if stage in stages]
        return AdapterSet(
            {stage: self.folders[stage] for stage in kept}, {stage: self.records[stage] for stage in kept}
        )

    def load(self, model: SAM3DObjects) -> dict[str, nn.Module]:
        """Put every adapter into its module of a model, in place, each checked by its fingerprint.

        Returns:
            stage -> the module that is adapted now.

        Raises:
            ValueError: as `load_adapter`, or the latent half, which one belongs to, is not loaded.
        """
        modules = {stage: adapted_module(model, stage) for stage in self.stages}
        for stage, module in modules.items():
            load_adapter(self.folders[stage], module, base_fingerprint=stage_fingerprint(model, stage))
        return modules


def read_adapter_set(checkpoint: str | os.PathLike[str]) -> AdapterSet:
    """Read what adapters remember, without their tensors: a set's folder, or a single adapter's of any stage.

    Raises:
        ValueError: there is no adapter, one is damaged, or lies in a folder of another stage's name; or the folder
            holds both an adapter and a set.
    """
    path = Path(checkpoint)
    for stage in STAGES:
        recover_folder(path / stage)
    # Any of its files makes a member, so that a damaged one is an error and not left out.
    inner = {stage: path / stage for stage in STAGES if any((path / stage / name).is_file() for name in _FILES)}
    if inner and (path / RECORD).is_file():
        raise ValueError(f"{path} holds both an adapter and a set ({', '.join(inner)}): name one of them")
    if not inner:
        record = _read(path)
        return AdapterSet({record.meta.stage: path}, {record.meta.stage: record})
    records = {stage: read_adapter(folder) for stage, folder in inner.items()}
    for stage, record in records.items():
        if record.meta.stage != stage:
            raise ValueError(f"{inner[stage]} holds an adapter of the stage {record.meta.stage!r}: rename the folder")
    found = {file.parent.name for file in path.glob(f"*/{RECORD}")}
    strange = sorted(name for name in found - inner.keys() if not name.startswith("."))  # what a kill left
    if strange:
        raise ValueError(f"{path} holds an adapter in {strange[0]!r}, which is no stage.{nearest(strange[0], STAGES)}")
    return AdapterSet(inner, records)


def add_to_set(adapter: Path, folder: Path) -> Path:
    """Copy an adapter into a set's folder under the name of its stage, in the place of an older one.

    Raises:
        ValueError: it is no adapter, or of no stage that a set has.
    """
    target = folder / _read(adapter).meta.stage
    with atomic_folder(target, NAMES) as temporary:
        for name in NAMES:
            if (adapter / name).is_file():
                shutil.copy2(adapter / name, temporary / name)
    return target


def _read(path: Path) -> AdapterRecord:
    sets = sorted({file.parent.parent.name for file in path.glob(f"[!.]*/[!.]*/{RECORD}")})
    if sets and not (path / RECORD).is_file():
        raise ValueError(f"no adapter at {path}: name one inside it, such as {path / sets[0]}")
    record = read_adapter(path)
    if record.meta.stage not in STAGES:
        raise ValueError(f"{path} is of the stage {record.meta.stage!r}; known are {', '.join(STAGES)}")
    return record
