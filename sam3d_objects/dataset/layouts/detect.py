"""Which layout a folder has."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from sam3d_objects.dataset.layouts import decathlon, folder, totalsegmentator
from sam3d_objects.dataset.layouts.raw import RawDataset


class _Layout(NamedTuple):
    detect: Callable[[Path], bool]
    read: Callable[[Path], RawDataset]


# In the order in which they are tried: from the most particular to the plainest.
_TABLE = {
    "decathlon": _Layout(decathlon.detect, decathlon.read),
    "totalsegmentator": _Layout(totalsegmentator.detect, totalsegmentator.read),
    "folder": _Layout(folder.detect, folder.read),
}


def read_layout(source: Path, layout: str = "auto") -> RawDataset:
    """List the cases of a folder of labelled scans, without opening them.

    Args:
        source: the folder.
        layout: 'totalsegmentator', 'decathlon', 'folder', or 'auto'.

    Raises:
        ValueError: no such folder, no known layout in it, or the layout asked for is not there.
    """
    if not source.is_dir():
        raise ValueError(f"{source} is not a folder; a folder of labelled NIfTI scans is expected")
    names = _TABLE if layout == "auto" else (layout,)
    for name in names:
        if _TABLE[name].detect(source):
            return _TABLE[name].read(source)
    raise ValueError(
        f"{source} holds no labelled scans in {'a known' if layout == 'auto' else f'the {layout}'} layout. "
        "Expected one of: CASE/ct.nii.gz + CASE/segmentations/ORGAN.nii.gz (TotalSegmentator); imagesTr/ + "
        "labelsTr/ + dataset.json (Decathlon); images/ + labels/ with equal names; X.nii.gz + X_label.nii.gz"
    )
