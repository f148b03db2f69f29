"""Small made-up scans in every layout that `prepare` reads: bright ellipsoids in noise."""

import json
from pathlib import Path

import numpy as np

from sam3d_objects.arrays import AnyArray, BoolArray
from sam3d_objects.volume import Volume, write_nifti

SHAPE = (26, 30, 24)
CENTER = (12.5, 14.0, 11.5)
RADII = (6.0, 8.5, 5.0)
# Anisotropic and left-handed (the first voxel axis runs to the left), as scans often are.
AFFINE = np.array([[-1.0, 0, 0, 40.0], [0, 1.2, 0, -20.0], [0, 0, 1.5, 7.0], [0, 0, 0, 1]])


def ellipsoid(
    center: tuple[float, float, float] = CENTER,
    radii: tuple[float, float, float] = RADII,
    shape: tuple[int, int, int] = SHAPE,
) -> BoolArray:
    """(I, J, K) bool, voxel units."""
    axes = np.meshgrid(*[np.arange(n) for n in shape], indexing="ij")
    parts = [((a - c) / r) ** 2 for a, c, r in zip(axes, center, radii, strict=True)]
    inside: BoolArray = np.sum(parts, axis=0) <= 1
    return inside


def intensities(mask: AnyArray, seed: int = 0) -> AnyArray:
    """Whole-number intensities, as int16: noise, and 100 more in the organ."""
    noise = np.random.default_rng(seed).integers(-30, 30, mask.shape)
    return (noise + 100 * (mask > 0)).astype(np.int16)


def write_scan(path: Path, voxels: AnyArray, affine: AnyArray = AFFINE) -> None:
    """One NIfTI file; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_nifti(path, Volume(voxels, affine))


def organ_of(number: int) -> BoolArray:
    """A slightly different organ for each case."""
    grow = 1 + 0.05 * (number % 4)
    return ellipsoid(radii=(RADII[0] * grow, RADII[1] * grow, RADII[2]))


def write_decathlon(root: Path, ids: list[str], labels: dict[str, AnyArray] | None = None) -> Path:
    """imagesTr, labelsTr and dataset.json: the front of the organ is label 1, its back label 2."""
    for number, name in enumerate(ids):
        organ = organ_of(number)
        front = np.arange(SHAPE[1])[None, :, None] < CENTER[1]
        label = np.where(organ, np.where(front, 1, 2), 0).astype(np.uint8)
        label = (labels or {}).get(name, label)
        write_scan(root / "imagesTr" / f"{name}.nii.gz", intensities(label, number))
        write_scan(root / "labelsTr" / f"{name}.nii.gz", label)
    listed = [{"image": f"./imagesTr/{n}.nii.gz", "label": f"./labelsTr/{n}.nii.gz"} for n in ids]
    description = {
        "name": "Made up",
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "Front", "2": "Back"},
        "training": listed,
    }
    (root / "dataset.json").write_text(json.dumps(description))
    return root


def write_totalsegmentator(root: Path, cases: int = 4, scan: str = "ct") -> Path:
    """Folders s0000 ... with the organs liver (large) and gland (small)."""
    for number in range(cases):
        folder = root / f"s{number:04d}"
        organ = organ_of(number)
        gland = ellipsoid((5.0, 6.0, 6.0), (3.0, 3.0, 3.0))
        write_scan(folder / f"{scan}.nii.gz", intensities(organ | gland, number))
        write_scan(folder / "segmentations" / "liver.nii.gz", organ.astype(np.uint8))
        write_scan(folder / "segmentations" / "gland.nii.gz", gland.astype(np.uint8))
    return root


def write_pairs(root: Path, ids: list[str], ending: str = "_label") -> Path:
    """X.nii.gz beside X_label.nii.gz, label value 1."""
    for number, name in enumerate(ids):
        organ = organ_of(number).astype(np.uint8)
        write_scan(root / f"{name}.nii.gz", intensities(organ, number))
        write_scan(root / f"{name}{ending}.nii.gz", organ)
    return root
