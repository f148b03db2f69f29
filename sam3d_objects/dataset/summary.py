"""What `prepare` says: what was chosen, what was left out and why, and who is on which side."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence

from sam3d_objects.dataset.layouts.raw import RawDataset
from sam3d_objects.dataset.manifest import CaseEntry, Manifest, Skipped
from sam3d_objects.dataset.options import PrepareOptions
from sam3d_objects.dataset.split import SPLITS
from sam3d_objects.dataset.structures import Structures

_LINES = 20

Say = Callable[[str], None]


def say_choices(
    say: Say,
    sets: Sequence[RawDataset],
    modality: str,
    structures: Structures,
    options: PrepareOptions,
    rule: str,
) -> None:
    """What will be done, before it is done."""
    for raw in sets:
        say(f"{raw.source}: {len(raw.cases)} cases, {raw.layout} layout")
    names = [
        name if name == (union := "+".join(map(str, terms))) else f"{name} = {union}"
        for name, terms in structures.items()
    ]
    say(f"structures: {', '.join(names)}; modality: {modality}")
    if options.field_of_view == "mask_margin":
        say(
            f"field of view: mask_margin, slices are cut to the mask plus {options.margin_mm:g} mm, so that "
            "nothing else tells where the organ ends (scan keeps whole slices)"
        )
    else:
        say("field of view: scan, slices stay whole")
    say(rule)


def say_skipped(say: Say, skipped: Sequence[Skipped]) -> None:
    """What was left out: a count for each reason, then the first ones in words."""
    if not skipped:
        say("nothing was left out")
        return
    counts = ", ".join(f"{count} {reason}" for reason, count in sorted(Counter(i.reason for i in skipped).items()))
    say(f"left out: {counts}")
    _say_some(say, [f"{item.case}{f' {item.organ}' if item.organ else ''}: {item.detail}" for item in skipped])


def say_notes(say: Say, entries: Iterable[CaseEntry]) -> None:
    """What was noticed about structures that stayed."""
    notes = [f"{entry.id} {name}: {note}" for entry in entries for name, o in entry.organs.items() for note in o.notes]
    if notes:
        say(f"kept, but noted: {len(notes)}")
        _say_some(say, notes)


def say_copies(say: Say, entries: Iterable[CaseEntry]) -> None:
    """Patients whose scans are the same file, byte for byte: perhaps one person under two names, or marked twice."""
    owners: dict[str, set[str]] = defaultdict(set)
    for entry in entries:
        image, *_ = entry.sources.values()  # the scan comes before its labels, which two readers may have drawn
        owners[image].add(entry.patient)
    copies = [" = ".join(sorted(names)) for names in owners.values() if len(names) > 1]
    if copies:
        say(
            f"CAUTION: different patients with the very same scan: {'; '.join(copies[:5])}"
            f"{' ...' if len(copies) > 5 else ''}. If they are one person, say so with --patient_rule, or "
            "the scores on the test patients mean nothing"
        )


def say_done(say: Say, manifest: Manifest) -> None:
    """How many cases, organs and patients there are, and their sides."""
    organs = Counter(name for case in manifest.cases for name in case.organs)
    counts = ", ".join(f"{name} {count}" for name, count in organs.items())
    say(f"prepared {len(manifest.cases)} cases ({counts})")
    sides = Counter(manifest.split.values())
    say("patients: " + ", ".join(f"{sides[side]} {side}" for side in SPLITS))
    missing = [side for side in SPLITS if not sides[side]]
    if missing:
        say(f"CAUTION: no patient is left for {' and '.join(missing)}")


def nothing_left(skipped: Sequence[Skipped]) -> ValueError:
    """The error when every structure of every case was left out."""
    counts = Counter(item.reason for item in skipped)
    examples = "; ".join(f"{item.case} {item.organ or ''}: {item.detail}" for item in skipped[:3])
    listed = ", ".join(f"{count} {reason}" for reason, count in counts.items())
    return ValueError(
        f"every structure of every case was left out ({listed}), e.g. {examples}. Correct the labels, "
        "or keep such structures with --keep cut, small or parts"
    )


def _say_some(say: Say, lines: Sequence[str]) -> None:
    for line in lines[:_LINES]:
        say(f"  {line}")
    if len(lines) > _LINES:
        say(f"  ... and {len(lines) - _LINES} more, all in manifest.json")
