"""Options of `prepare` (a folder of labelled scans becomes a mesh data set) and of `phantoms`."""

from dataclasses import dataclass
from pathlib import Path

from .option import check_options, option


@dataclass(frozen=True)
class PrepareOptions:
    """Which structures of which scans become a mesh data set, and how patients are split."""

    classes: str = option("", "structures: 1+2,3 (a union, a label), liver,left+right, name=1+2; empty: all")
    layout: str = option(
        "auto", "how the scans are laid out", choices=("auto", "totalsegmentator", "decathlon", "folder")
    )
    modality: str = option("auto", "what made the scans; auto: as the files say", choices=("auto", "ct", "mr", "us"))
    patient_rule: str = option(
        "auto", "who is one patient: auto, case, pairs (2k-1, 2k), re:REGEX (one group) or csv:FILE:COLUMN"
    )
    field_of_view: str = option(
        "mask_margin",
        "what the model sees: the mask and its margin (right for crops), or the whole slice of the scan",
        choices=("mask_margin", "scan"),
    )
    margin_mm: float = option(3.0, "how far beyond the mask a slice shows, mm", minimum=0.1, maximum=1000.0)
    test_nifti: Path | None = option(None, "a folder of test scans; then nothing is split off for testing")
    val_fraction: float = option(0.1, "share of the patients that validate", minimum=0.0, maximum=0.9)
    test_fraction: float = option(0.2, "share of the patients that test", minimum=0.0, maximum=0.9)
    window_hu: tuple[float, float] = option((-160.0, 240.0), "intensity window of CT, HU")
    percentiles: tuple[float, float] = option(
        (0.5, 99.5), "intensity window of MR and US, percentiles", minimum=0.0, maximum=100.0
    )
    min_voxels: int = option(64, "smaller structures are left out, voxels", minimum=1)
    min_extent_vox: int = option(4, "structures thinner than this are left out, voxels", minimum=1)
    max_part_percent: float = option(
        5.0, "a second part larger than this share of the largest is a reason to leave out", minimum=0.0
    )
    keep: tuple[str, ...] = option((), "reasons that do not leave a structure out: cut, small, parts")
    on_error: str = option("error", "a broken case stops, or is recorded and skipped", choices=("error", "skip"))
    num_workers: int | None = option(
        None, "processes; 0: none beside the main one; default: by the size of the work", minimum=0
    )
    seed: int = option(0, "seed of the split", minimum=0)

    def __post_init__(self) -> None:
        check_options(self)
        for name in ("window_hu", "percentiles"):
            low, high = getattr(self, name)
            if low >= high:
                raise ValueError(f"PrepareOptions.{name} is a lower and a higher number; got {low} {high}")


@dataclass(frozen=True)
class PhantomOptions:
    """Synthetic phantom scans for the demo."""

    cases: int = option(24, "how many phantoms", minimum=3)
    seed: int = option(0, "seed of the shapes and the noise", minimum=0)

    def __post_init__(self) -> None:
        check_options(self)
