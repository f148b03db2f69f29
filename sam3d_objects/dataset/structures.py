"""Which structures are wanted: ``1+2,3`` is two structures, the union of labels 1 and 2, and label 3.

A term is a label value or a label's name; ``name=`` in front names the structure, which otherwise is called
what was written. ``hippocampus=1+2``, ``liver,kidney_left,kidney_right``. A union of organs apart, such as
``kidney_left+kidney_right``, is one mesh of several parts, and coarser than each by itself.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from sam3d_objects.dataset.layouts.raw import RawDataset, unknown
from sam3d_objects.volume import read_label

Term = int | str  # a label value, or the name of a mask file
Structures = dict[str, tuple[Term, ...]]

_FORBIDDEN = set('/\\:*?"<>|')  # names end up in file names


@dataclass(frozen=True)
class Structure:
    """A structure as it was asked for: its name and the labels (values or names) whose union it is."""

    name: str
    terms: tuple[str, ...]


def parse_structures(text: str) -> tuple[Structure, ...]:
    """Read ``name=term+term,term`` (see above).

    Raises:
        ValueError: an empty name or term, a name that cannot be part of a file's name, or a name given twice.
    """
    structures = []
    for part in text.split(","):
        name, equals, union = part.rpartition("=")
        terms = tuple(term.strip() for term in union.split("+"))
        name = name.strip() if equals else "+".join(terms)
        if _FORBIDDEN & set(name):
            raise ValueError(
                f"the structure {name!r} cannot be called that: its name becomes part of file names, which hold none "
                f"of {' '.join(sorted(_FORBIDDEN))}; give it a name of its own, e.g. prostate={name}"
            )
        if not name or not all(terms):
            raise ValueError(
                f"cannot read the structure {part.strip()!r} in {text!r}; expected label values or names "
                "joined by +, structures parted by commas, e.g. 1+2,3 or hippocampus=1+2"
            )
        structures.append(Structure(name, terms))
    names = [structure.name for structure in structures]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"the structure {name!r} is asked for twice in {text!r}")
    return tuple(structures)


def resolve(text: str | None, raw: RawDataset) -> Structures:
    """Structure name -> its label values (or, with a mask file per organ, the files' names).

    Without `text` every label of the data set is a structure of its own; where nothing names the labels, the
    label files are read for their values.

    Raises:
        ValueError: a name that the data set does not have, or no label at all.
    """
    if text is None:
        structures = _all(raw)
        if not structures:
            raise ValueError(f"{raw.source}: no labels found in any of the {len(raw.cases)} cases")
        return structures
    find = _value(raw.label_names) if raw.has_label_values else _file(raw.organ_names)
    return {item.name: tuple(dict.fromkeys(map(find, item.terms))) for item in parse_structures(text)}


def check_found(structures: Mapping[str, tuple[Term, ...]], found: Iterable[Term]) -> None:
    """Refuse labels that no case has.

    Args:
        structures: what was asked for.
        found: label values or organ names that at least one case has voxels of.

    Raises:
        ValueError: naming the label and the available ones.
    """
    available = set(found)
    for terms in structures.values():
        for term in terms:
            if term not in available:
                kind = "the label value" if isinstance(term, int) else "the organ"
                raise unknown(kind, str(term), map(str, sorted(available, key=str)))


def _all(raw: RawDataset) -> Structures:
    if not raw.has_label_values:
        return {name: (name,) for name in raw.organ_names}
    if raw.label_names:
        return {name: (value,) for name, value in raw.label_names.items()}
    values: set[int] = set()
    broken = []
    for case in raw.cases:
        try:
            assert case.label is not None, "checked by has_label_values"
            values.update(np.unique(read_label(case.label).voxels).tolist())
        except ValueError as error:  # named with all other broken cases when they are prepared
            broken.append(str(error))
    if broken and not values:
        raise ValueError("no label file can be read:\n  " + "\n  ".join(broken))
    return {str(value): (value,) for value in sorted(values - {0})}


def _value(label_names: Mapping[str, int]) -> Callable[[str], Term]:
    folded = {name.casefold(): value for name, value in label_names.items()}

    def find(term: str) -> Term:
        if term.isdigit():
            known = not label_names or int(term) in label_names.values()
            if int(term) == 0 or not known:
                raise unknown("the label value", term, (f"{value} ({name})" for name, value in label_names.items()))
            return int(term)
        if not label_names:
            raise ValueError(f"the labels of this data set have no names; give values, e.g. 1+2, got {term!r}")
        if term.casefold() not in folded:
            raise unknown("the label", term, [f"{name} ({value})" for name, value in label_names.items()])
        return folded[term.casefold()]

    return find


def _file(names: tuple[str, ...]) -> Callable[[str], Term]:
    def find(term: str) -> Term:
        if term not in names:
            raise unknown("the organ", term, names)
        return term

    return find
