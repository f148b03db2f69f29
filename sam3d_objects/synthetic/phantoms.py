"""A folder of phantom scans in TotalSegmentator's layout, for the demo: synthetic, and named so."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from sam3d_objects.files import atomic_path
from sam3d_objects.synthetic.scan import phantom_scan
from sam3d_objects.synthetic.templates import PHANTOM_ORGANS
from sam3d_objects.volume import write_nifti

NOTICE_NAME = "SYNTHETIC.md"
# The second case has an organ that the scan's border cuts off, so that skipping it can be seen.
CUT_CASE_INDEX = 1
CUT_ORGAN = "phantom_lobe"

_RECIPE_VERSION = 1


def write_phantoms(
    folder: str | os.PathLike[str],
    cases: int = 24,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Write phantom scans `sXXXX/ct.nii.gz` and `sXXXX/segmentations/<organ>.nii.gz`, and `SYNTHETIC.md`.

    A case depends on the seed and its own number alone, so more cases can be added later. Cases that are
    there already are kept; a killed run goes on where it was.

    Args:
        folder: made if absent.
        cases: how many scans, at least 1.
        seed: of all randomness.
        progress: called with (cases done, cases).

    Returns:
        The case folders, in order.

    Raises:
        ValueError: fewer than one case, or the folder holds scans that this recipe and seed did not make.
    """
    root = Path(folder)
    if cases < 1:
        raise ValueError(f"expected at least one phantom case, got {cases}")
    _claim(root, seed)
    folders = []
    for index in range(cases):
        case = root / f"s{index + 1:04d}"
        _write_case(case, seed, index)
        folders.append(case)
        if progress is not None:
            progress(index + 1, cases)
    return folders


def _claim(root: Path, seed: int) -> None:
    """Write the notice, or check that the one there is ours: real scans and phantoms never share a folder."""
    notice, text = root / NOTICE_NAME, _notice(seed)
    if notice.exists():
        if notice.read_text(encoding="utf-8") != text:
            raise ValueError(
                f"{root}: expected phantoms of seed {seed}, recipe {_RECIPE_VERSION}, but the {NOTICE_NAME} "
                "there tells of others; give another folder or delete this one"
            )
        return
    if root.is_dir() and any(root.iterdir()):
        raise ValueError(f"{root}: expected an empty folder or one of phantoms ({NOTICE_NAME} is missing)")
    with atomic_path(notice) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _write_case(case: Path, seed: int, index: int) -> None:
    """Write one case, the image last: a case with its image is complete."""
    image_path = case / "ct.nii.gz"
    if image_path.exists():
        return
    generator = np.random.default_rng([seed, index])
    cut = index == CUT_CASE_INDEX
    scan = phantom_scan(generator, oblique=index % 3 == 2, cut_organ=CUT_ORGAN if cut else None)
    for name, mask in scan.organs.items():
        write_nifti(case / "segmentations" / f"{name}.nii.gz", mask)
    write_nifti(image_path, scan.image)


def _notice(seed: int) -> str:
    names = ", ".join(f"`{organ.name}`" for organ in PHANTOM_ORGANS)
    return f"""# These scans are synthetic

Made by `sam3d_objects.synthetic.write_phantoms` (seed {seed}, recipe {_RECIPE_VERSION}).
No patient was scanned: {names} are invented
shapes, not organs. The layout is TotalSegmentator's: `sXXXX/ct.nii.gz` in Hounsfield-like units and
`sXXXX/segmentations/<organ>.nii.gz`. Size, proportions, pose and form of each organ vary smoothly between
cases; the scans have noise, shading, anisotropic spacing and, in every third case, an oblique grid.

In `s{CUT_CASE_INDEX + 1:04d}` the scan's border cuts `{CUT_ORGAN}` off on purpose, to show that such an
organ is recorded and left out.

Scores on these scans say that the software works, and nothing about organs.
"""
