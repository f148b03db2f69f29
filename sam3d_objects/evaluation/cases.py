"""Cases: which slices of which organs of the test patients are judged, and what is needed to judge them."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from sam3d_objects.dataset import CaseEntry, Manifest, PreparedCase, evaluation_slices
from sam3d_objects.evaluation.baselines import BASELINES, Baseline, fit_baselines
from sam3d_objects.evaluation.slice_frame import chosen_organs
from sam3d_objects.evaluation.truth import Truth
from sam3d_objects.evaluation.workers import forked
from sam3d_objects.files import nearest
from sam3d_objects.volume import PLANES, SliceInput, Volume, cut_to_mask


@dataclass(frozen=True, eq=False)
class Material:
    """What a case is judged with.

    Args:
        slice: all that a predictor sees, already cut to the field of view.
        truth: the organ.
        scan: the image around it, for pictures; no predictor sees it.
    """

    slice: SliceInput
    truth: Truth
    scan: Volume

    @property
    def slice_position(self) -> float:
        """Where the slice lies in the organ's extent along its normal: 0 is the lowest or most posterior or leftmost
        end, 1 the other (RAS).
        """
        plane = self.slice.plane
        normal = plane.affine[:3, 2]
        normal = normal * np.sign(normal[np.abs(normal).argmax()])
        heights_mm = self.truth.mesh.vertices @ normal
        low, high = float(heights_mm.min()), float(heights_mm.max())
        return (float(plane.affine[:3, 3] @ normal) - low) / (high - low)


@dataclass(frozen=True, eq=False)
class Case:
    """One slice of one organ of one test patient.

    Args:
        case, patient, organ, plane: whose and which; plane is one of `PLANES`.
        slice_kind: `largest` or `random`.
        slice_index: native voxel index along the plane's normal.
        load: reads the material; called when the case's turn comes.
    """

    case: str
    patient: str
    organ: str
    plane: str
    slice_kind: str
    slice_index: int
    load: Callable[[], Material]

    @property
    def key(self) -> tuple[str, str, str, str, int]:
        """What tells cases apart; equal to `Row.case_key` of their rows."""
        return (self.case, self.organ, self.plane, self.slice_kind, self.slice_index)


def organ_truth(prepared: PreparedCase, organ: str) -> Truth:
    """The truth of one organ of a prepared case; its diagonal is that of the whole native scan."""
    whole = Volume(np.broadcast_to(np.False_, prepared.entry.native_shape), prepared.native_affine)
    return Truth(prepared.box_mask(organ), prepared.mesh(organ), whole.diagonal_mm)


def prepared_cases(
    data_root: Path,
    organs: Sequence[str] | None = None,
    seed: int = 0,
    split: str = "test",
    planes: Sequence[str] = PLANES,
) -> list[Case]:
    """The cases of a prepared folder: for each organ and plane the largest slice and a random one.

    Slices are cut to the manifest's field of view, so that with `mask_margin` no predictor sees more than the mask and
    the margin around it.

    Args:
        data_root: the prepared folder.
        organs: structure names; None takes all.
        seed: of the random slices.
        split: `test`, or `val` to choose settings by.
        planes: among PLANES.

    Raises:
        ValueError: no prepared folder, no patients in the split, an unknown organ, or an organ that no
            patient of the split has.
    """
    manifest = Manifest.load(data_root)
    wanted = _organs(manifest, organs)
    margin_mm = manifest.margin_mm if manifest.field_of_view == "mask_margin" else None
    opener = _Opener(data_root)
    cases: list[Case] = []
    for entry in manifest.of_split(split):
        for organ in wanted:
            if organ in entry.organs:
                slices = evaluation_slices(PreparedCase(data_root, entry), organ, seed, planes)
                cases += [
                    Case(
                        *(entry.id, entry.patient, organ, plane, kind, index),
                        partial(opener.material, entry, organ, plane, index, margin_mm),
                    )
                    for plane, kind, index in slices
                ]
    missing = [organ for organ in wanted if organ not in {case.organ for case in cases}]
    if missing:
        raise ValueError(f"no patient of the {split} split has {', '.join(missing)}; leave it out of organs")
    return cases


def _organs(manifest: Manifest, organs: Sequence[str] | None) -> list[str]:
    names = list(manifest.structures)
    for organ in organs or ():
        if organ not in names:
            raise ValueError(f"no organ {organ!r}; there are {', '.join(names)}.{nearest(organ, names)}")
    return list(organs) if organs is not None else names


class _Opener:
    """Reads organs, and keeps the last one while its slices are judged one after another."""

    def __init__(self, data_root: Path) -> None:
        self._data_root = data_root
        self._last: tuple[str, str] | None = None
        self._opened: tuple[PreparedCase, Volume, Truth] | None = None

    def material(self, entry: CaseEntry, organ: str, plane: str, index: int, margin_mm: float | None) -> Material:
        """The material of one slice, cut to `margin_mm` around the mask unless that is None."""
        if self._opened is None or self._last != (entry.id, organ):
            prepared = PreparedCase(self._data_root, entry)
            self._opened = prepared, prepared.image, organ_truth(prepared, organ)
            self._last = entry.id, organ
        prepared, scan, truth = self._opened
        slice = prepared.slice(organ, plane, index)
        # Whole slices are normalised by the whole scan, as in training.
        seen = replace(slice, reference=prepared.reference) if margin_mm is None else cut_to_mask(slice, margin_mm)
        return Material(seen, truth, scan)


def prepared_baselines(
    data_root: Path,
    names: Sequence[str] = tuple(BASELINES),
    organs: Sequence[str] | None = None,
    workers: int = 0,
) -> dict[str, dict[str, Baseline]]:
    """Fit baselines on the training split alone, organ by organ.

    Args:
        data_root: the prepared folder.
        names: among BASELINES.
        organs: structure names; None takes all.
        workers: forked processes that fit an organ each; 0 fits here.

    Returns:
        baseline name -> organ -> predictor.

    Raises:
        ValueError: an unknown name or organ, or an organ that no training patient has.
    """
    manifest = Manifest.load(data_root)
    entries: dict[str, list[CaseEntry]] = {}
    for organ in _organs(manifest, organs):
        entries[organ] = [entry for entry in manifest.of_split("train") if organ in entry.organs]
        if not entries[organ]:
            raise ValueError(f"no patient of the train split has {organ}: nothing to fit a baseline on")

    def fit(organ: str) -> Iterator[tuple[str, dict[str, Baseline]]]:
        # Chosen before they are read: a thousand livers would not fit into memory.
        chosen = [entries[organ][number] for number in chosen_organs(len(entries[organ]))]
        labels = [PreparedCase(data_root, entry).box_mask(organ) for entry in chosen]
        yield organ, fit_baselines(labels, names)

    alone = workers == 0 or len(entries) == 1
    fitted = dict(
        itertools.chain.from_iterable(map(fit, entries)) if alone else forked([[one] for one in entries], fit, workers)
    )
    return {name: {organ: fitted[organ][name] for organ in entries} for name in names}
