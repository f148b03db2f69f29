"""From a folder of labelled scans to a mesh dataset: list, convert in parallel, split by patient."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from sam3d_objects.dataset.convert import BrokenCase, Job, convert_case
from sam3d_objects.dataset.layouts import RawDataset, read_layout
from sam3d_objects.dataset.layouts.raw import dataset_modality
from sam3d_objects.dataset.manifest import FILE_NAME, CaseEntry, Manifest, Skipped
from sam3d_objects.dataset.options import PrepareOptions
from sam3d_objects.dataset.patients import assign_patients
from sam3d_objects.dataset.pool import cpu_count, run_all
from sam3d_objects.dataset.record import CaseRecord, remove_leftovers, reusable
from sam3d_objects.dataset.split import merge_split, split_patients
from sam3d_objects.dataset.structures import Structures, check_found, resolve
from sam3d_objects.dataset.summary import (
    nothing_left,
    say_choices,
    say_copies,
    say_done,
    say_notes,
    say_skipped,
)

_SMALL_BYTES = 64_000_000  # below this, starting processes takes longer than the work


def prepare(
    source: Path,
    out: Path,
    options: PrepareOptions | None = None,
    say: Callable[[str], None] = print,
    show_progress: bool = True,
) -> Manifest:
    """Turn a folder of labelled scans into a mesh dataset.

    It may be killed at any moment and run again: cases that are done are kept, unless their files or the
    options that matter have changed. The same scans and options give the same bytes.

    Args:
        source: the scans, in one of the layouts that `read_layout` knows.
        out: the prepared folder; made if it is not there.
        options: see there.
        say: called with each line of the report.
        show_progress: whether to show a progress bar.

    Returns:
        the manifest, which lies in the folder as well.

    Raises:
        ValueError: what the user can change: an unknown layout or label, broken cases (all of them named),
            nothing left to use, a patient on two sides.
        OSError: the folder cannot be written.
    """
    options = options or PrepareOptions()
    source, out = Path(source), Path(out)
    sets = [read_layout(source, options.layout)]
    if options.test_source is not None:
        sets.append(read_layout(Path(options.test_source), options.layout))
    # Everything that can be refused without opening a scan is refused here, at once.
    modality = dataset_modality([case for raw in sets for case in raw.cases], options.modality)
    sets, skipped = _of_modality(sets, modality)
    structures = [resolve(options.structures, raw) for raw in sets]
    if structures[0].keys() != structures[-1].keys():
        raise ValueError(
            f"{source} has the structures {', '.join(structures[0])}, but {options.test_source} has "
            f"{', '.join(structures[-1])}; name those that you want"
        )
    patients, rule = _patients(sets, options.patient_rule)
    say_choices(say, sets, modality, structures[0], options, rule)

    known = _older(out)
    records, broken = _convert(sets, structures, out, options, say, show_progress)
    skipped += broken + [item for record in records for item in record.skipped]
    if options.structures is not None:  # else each label is taken for itself, and may well be in no case
        found = {term for record in records for term in record.found}
        for wanted in structures:
            check_found(wanted, found)
    entries = [replace(record.entry, patient=patients[record.entry.id]) for record in records if record.entry.organs]
    say_skipped(say, skipped)
    if not entries:
        raise nothing_left(skipped)
    say_notes(say, entries)
    say_copies(say, entries)
    manifest = Manifest(
        modality=modality,
        window_hu=options.window_hu,
        percentiles=options.percentiles,
        field_of_view=options.field_of_view,
        margin_mm=options.margin_mm,
        structures=structures[0],
        layout=sets[0].layout,
        source=str(source),
        test_source=None if options.test_source is None else str(options.test_source),
        patient_rule=rule,
        cases=tuple(sorted(entries, key=lambda entry: entry.id)),
        skipped=tuple(skipped),
        split=_split(sets, entries, options),
    )
    manifest = _with_known_targets(manifest, known)
    manifest.save(out)
    say_done(say, manifest)
    return manifest


def _older(out: Path) -> Manifest | None:
    """The manifest of an earlier call; None where there is none of this version."""
    try:
        return Manifest.load(out)
    except ValueError:
        return None


def _with_known_targets(manifest: Manifest, older: Manifest | None) -> Manifest:
    """The manifest with what an older one of the very same data knows of the training targets."""
    same = older is not None and older.fingerprint == manifest.fingerprint
    return replace(manifest, targets=older.targets) if older is not None and same else manifest


def _of_modality(sets: Sequence[RawDataset], modality: str) -> tuple[list[RawDataset], list[Skipped]]:
    """Leave out the cases that say that they are of another modality."""
    skipped, kept = [], []
    for raw in sets:
        other = [case for case in raw.cases if case.modality not in (None, modality)]
        # A data set all of which is named otherwise is mislabelled, not mixed: the user's word counts.
        if other and len(other) < len(raw.cases):
            text = f"another modality than {modality}"
            skipped += [Skipped(case.id, None, "modality", text) for case in other]
            raw = replace(raw, cases=tuple(case for case in raw.cases if case not in other))
        kept.append(raw)
    return kept, skipped


def _patients(sets: Sequence[RawDataset], rule: str) -> tuple[dict[str, str], str]:
    """Patient of every case, by one rule in both folders; nobody and nothing may be in both."""
    patients, sentence = assign_patients([case.id for case in sets[0].cases], rule)
    if len(sets) == 2:
        tests, _ = assign_patients([case.id for case in sets[1].cases], rule)
        merge_split(dict.fromkeys(patients.values(), "train"), tests.values())
        both = sorted(patients.keys() & tests.keys())
        if both:
            raise ValueError(
                f"the cases {', '.join(both[:10])} are in {sets[0].source} and in {sets[1].source}; rename them in one"
            )
        patients |= tests
    return patients, sentence


def _convert(
    sets: Sequence[RawDataset],
    structures: Sequence[Structures],
    out: Path,
    options: PrepareOptions,
    say: Callable[[str], None],
    show_progress: bool,
) -> tuple[list[CaseRecord], list[Skipped]]:
    """Prepare the cases that are not there yet; the records of all, and the cases that cannot be read."""
    remove_leftovers(out / "cases")
    jobs = [
        Job(case, raw.source, wanted, options, out / "cases" / case.id)
        for raw, wanted in zip(sets, structures, strict=True)
        for case in raw.cases
    ]
    done = [reusable(job.folder, job.key, job.files) for job in jobs]
    records = [record for record in done if record is not None]
    todo = [job for job, record in zip(jobs, done, strict=True) if record is None]
    if records:
        say(f"{len(records)} cases were already prepared and are unchanged")
    if todo:
        # From here on an older manifest would describe cases that are no longer there.
        (out / FILE_NAME).unlink(missing_ok=True)
    others = {path.name for path in (out / "cases").glob("*")} - {case.id for raw in sets for case in raw.cases}
    if others:
        say(f"{out / 'cases'} holds {len(others)} other cases, which are not part of this data set")
    results = run_all(convert_case, todo, _workers(todo, options), "preparing", show_progress)
    records += [result for result in results if isinstance(result, CaseRecord)]
    broken = [result for result in results if isinstance(result, BrokenCase)]
    if broken and options.on_error == "error":
        lines = "\n".join(f"  {item.case}: {item.message}" for item in broken)
        raise ValueError(
            f"{len(broken)} of {len(jobs)} cases cannot be read:\n{lines}\nCorrect or remove them, or leave "
            "them out with --on_error skip (the others are done and will not be made again)"
        )
    unreadable = [Skipped(item.case, None, "unreadable", item.message) for item in broken]
    return sorted(records, key=lambda record: record.entry.id), unreadable


def _workers(jobs: Sequence[Job], options: PrepareOptions) -> int:
    if options.num_workers is not None:
        return options.num_workers
    size = sum(job.raw.image.stat().st_size for job in jobs if job.raw.image.is_file())
    return 0 if size < _SMALL_BYTES or cpu_count() == 1 else cpu_count()


def _split(sets: Sequence[RawDataset], entries: Sequence[CaseEntry], options: PrepareOptions) -> dict[str, str]:
    tests = {case.id for case in sets[1].cases} if len(sets) == 2 else set()
    ours = [entry.patient for entry in entries if entry.id not in tests]
    test_fraction = 0.0 if len(sets) == 2 else options.test_fraction
    split = split_patients(ours, options.val_fraction, test_fraction, options.seed)
    return merge_split(split, [entry.patient for entry in entries if entry.id in tests])
