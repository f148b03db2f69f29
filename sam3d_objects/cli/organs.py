"""Which structures a command works on."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sam3d_objects.dataset import Manifest


def organ_names(text: str) -> list[str] | None:
    """Read a list of structures separated by commas; an empty text means all of the data set."""
    return [name.strip() for name in text.split(",") if name.strip()] or None


def organs_in_splits(manifest: "Manifest", splits: Iterable[str]) -> list[str]:
    """Return the structures that at least one patient of each of these splits has.

    A small data set may have a structure on one side only, when it was left out elsewhere.
    """
    present = [{organ for case in manifest.of_split(split) for organ in case.organs} for split in splits]
    return [organ for organ in manifest.structures if all(organ in seen for seen in present)]
