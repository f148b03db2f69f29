"""One raw case becomes one folder ``cases/<id>/``: read, check each structure, crop, store."""

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sam3d_objects.arrays import BoolArray, FloatArray
from sam3d_objects.dataset.layouts.raw import RawCase
from sam3d_objects.dataset.manifest import CaseEntry, OrganEntry, Skipped
from sam3d_objects.dataset.options import PrepareOptions
from sam3d_objects.dataset.organ import OrganCheck, check_organ
from sam3d_objects.dataset.record import CaseRecord, file_state, store
from sam3d_objects.dataset.storage import save_organ, save_volume
from sam3d_objects.dataset.structures import Structures, Term
from sam3d_objects.mesh import Mesh, surface_from_mask
from sam3d_objects.volume import Box, Volume, box_of, check_same_grid, read_label, read_nifti, shear_degrees
from sam3d_objects.volume.planes import MAX_SHEAR_DEGREES

FORMAT = 1  # of a case's folder: raised when its contents change, so that old folders are made again


@dataclass(frozen=True)
class Job:
    """All that a worker needs for one case: `source` is the data set's folder, `folder` the case's own."""

    raw: RawCase
    source: Path
    structures: Structures
    options: PrepareOptions
    folder: Path

    @property
    def key(self) -> str:
        """SHA-256 of the options that change what is stored."""
        options = self.options
        matter = {
            "format": FORMAT,
            "structures": {name: list(terms) for name, terms in self.structures.items()},
            "crop_margin_mm": options.crop_margin_mm,
            "min_voxels": options.min_voxels,
            "min_extent_vox": options.min_extent_vox,
            "max_part_percent": options.max_part_percent,
            "keep": sorted(options.keep),
        }
        return hashlib.sha256(json.dumps(matter).encode()).hexdigest()

    @property
    def files(self) -> dict[str, Path]:
        """The source files that are read, by their path relative to the data set's folder."""
        wanted = {term for terms in self.structures.values() for term in terms}
        masks = [path for name, path in sorted(self.raw.organs.items()) if name in wanted]
        paths = [self.raw.image, *([self.raw.label] if self.raw.label else []), *masks]
        return {Path(os.path.relpath(path, self.source)).as_posix(): path for path in paths}


@dataclass(frozen=True)
class BrokenCase:
    """A case that cannot be read, and why."""

    case: str
    message: str


def convert_case(job: Job) -> CaseRecord | BrokenCase:
    """Prepare one case.

    Raises:
        OSError: the result cannot be written (a full disk); the message names the folder.
    """
    try:
        # Hashed before they are read: a file that changes in between is then made again next time.
        sources = {name: file_state(path) for name, path in job.files.items()}
        image, parts, found = _read(job)
    except ValueError as error:
        return BrokenCase(job.raw.id, str(error))
    kept, skipped = _check(job, image, parts)
    meshes = {name: _surface(check, image.affine) for name, check in kept.items()}
    crop = _crop(list(kept.values()), image, job.options.crop_margin_mm)
    entry = CaseEntry(
        id=job.raw.id,
        patient="",  # the rule may change without the case being made again
        sources={name: state["sha256"] for name, state in sources.items()},
        native_shape=image.shape,
        native_affine=_rows(image.affine),
        crop_offset_vox=(crop[0].start, crop[1].start, crop[2].start),
        shape=(crop[0].stop - crop[0].start, crop[1].stop - crop[1].start, crop[2].stop - crop[2].start),
        rounding=0.0,
        organs={name: _facts(check, meshes[name], image.affine) for name, check in kept.items()},
    )
    record = CaseRecord(job.key, sources, entry, tuple(skipped), tuple(found))

    def fill(folder: Path) -> CaseRecord:
        for number, (name, check) in enumerate(kept.items()):
            save_organ(folder, number, check.mask, meshes[name])
        rounding = save_volume(folder, image.voxels[crop])
        return replace(record, entry=replace(entry, rounding=rounding))

    return store(job.folder, record, fill)


@dataclass(frozen=True)
class _Part:
    """The voxels of one label, cut to their box: whole masks of a hundred organs would not fit into memory."""

    mask: BoolArray
    box: Box

    @classmethod
    def of(cls, mask: BoolArray) -> "_Part":
        box = box_of(mask)
        return cls(mask[box].copy(), box)


def _read(job: Job) -> tuple[Volume, dict[Term, _Part], list[Term]]:
    """The scan; the labels that are wanted and there; all labels that are there."""
    image = read_nifti(job.raw.image)
    shear = shear_degrees(image.affine)
    if shear > MAX_SHEAR_DEGREES:
        raise ValueError(
            f"{job.raw.image}: the voxel axes are {shear:.1f} degrees from orthogonal (gantry tilt or a bad "
            "affine); resample scan and labels to an orthogonal grid first"
        )
    label = read_label(job.raw.label) if job.raw.label is not None else None
    if label is not None:
        check_same_grid(image, label, f"{job.raw.image} and {job.raw.label}")
        found: list[Term] = [value for value in np.unique(label.voxels).tolist() if value != 0]
        return image, {value: _Part.of(label.voxels == value) for value in found if _is_wanted(job, value)}, found
    parts: dict[Term, _Part] = {}
    for name, path in job.raw.organs.items():
        if _is_wanted(job, name):
            marked = read_label(path)
            check_same_grid(image, marked, f"{job.raw.image} and {path}")
            mask = marked.voxels > 0
            if mask.any():
                parts[name] = _Part.of(mask)
    return image, parts, list(parts)


def _is_wanted(job: Job, term: Term) -> bool:
    return any(term in terms for terms in job.structures.values())


def _check(
    job: Job, image: Volume, parts: Mapping[Term, _Part]
) -> tuple[dict[str, OrganCheck], list[Skipped]]:
    """The structures that stay, and those that are left out with their reasons."""
    options, kept, skipped = job.options, {}, []
    for name, terms in job.structures.items():
        # A union of what is there: a liver without a tumour is still a liver (it is noted).
        there = [parts[term] for term in terms if term in parts]
        if not there:
            text = f"absent: this case has no voxel of {'+'.join(map(str, terms))}"
            skipped.append(Skipped(job.raw.id, name, "absent", text))
            continue
        mask, labels = np.zeros(image.shape, dtype=bool), len(there)
        for part in there:
            mask[part.box] |= part.mask
        check = check_organ(
            mask,
            image.affine,
            labels=labels,
            min_voxels=options.min_voxels,
            min_extent_vox=options.min_extent_vox,
            max_part_percent=options.max_part_percent,
        )
        notes = [text for reason, text in check.problems.items() if reason in options.keep]
        reasons = {reason: text for reason, text in check.problems.items() if reason not in options.keep}
        if labels < len(terms):
            notes.append(f"only {labels} of the {len(terms)} labels {'+'.join(map(str, terms))} are in this case")
        if reasons:
            skipped += [Skipped(job.raw.id, name, reason, text) for reason, text in reasons.items()]
        else:
            kept[name] = replace(check, notes=(*check.notes, *notes))
    return kept, skipped


def _surface(check: OrganCheck, affine: FloatArray) -> Mesh:
    """The structure's surface in patient mm, made from its box alone."""
    moved = affine.copy()
    moved[:3, 3] += affine[:3, :3] @ [side.start for side in check.box]
    return surface_from_mask(check.mask, moved)


def _crop(checks: list[OrganCheck], image: Volume, margin_mm: float | None) -> Box:
    """The box of all structures and the margin, within the scan; all of it without margin or structures."""
    if margin_mm is None or not checks:
        return slice(0, image.shape[0]), slice(0, image.shape[1]), slice(0, image.shape[2])
    sides = []
    for axis in range(3):
        pad = math.ceil(margin_mm / image.spacing_mm[axis])
        start = min(check.box[axis].start for check in checks) - pad
        stop = max(check.box[axis].stop for check in checks) + pad
        sides.append(slice(max(0, start), min(image.shape[axis], stop)))
    return sides[0], sides[1], sides[2]


def _facts(check: OrganCheck, mesh: Mesh, affine: FloatArray) -> OrganEntry:
    voxels = int(np.count_nonzero(check.mask))
    first = [side.start for side in check.box]
    last = [side.stop - 1 for side in check.box]
    low, high = mesh.bounds.tolist()
    return OrganEntry(
        voxels=voxels,
        volume_mm3=voxels * abs(float(np.linalg.det(affine[:3, :3]))),
        mesh_volume_mm3=mesh.volume,
        area_mm2=mesh.area,
        box_vox=((first[0], first[1], first[2]), (last[0], last[1], last[2])),
        box_mm=((low[0], low[1], low[2]), (high[0], high[1], high[2])),
        notes=check.notes,
    )


def _rows(affine: FloatArray) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row) for row in affine.tolist())
