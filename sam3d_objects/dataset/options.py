"""What `prepare` is asked to do: plain values, checked when they are made."""

from dataclasses import dataclass
from pathlib import Path

from sam3d_objects.files import nearest
from sam3d_objects.volume import FIELDS_OF_VIEW, MODALITIES

LAYOUTS = ("auto", "totalsegmentator", "decathlon", "folder")
REASONS = ("cut", "small", "parts")  # the exclusions that `keep` can lift


@dataclass(frozen=True)
class PrepareOptions:
    """How scans become a mesh dataset.

    Attributes:
        structures: which structures, e.g. ``1+2,3`` or ``hippocampus=1+2`` or ``liver,kidney_left``; None
            takes every label of the data set on its own.
        layout: one of LAYOUTS; ``auto`` recognises it.
        modality: ``ct``, ``mr`` or ``us``; None reads it from dataset.json or from the file names.
        window_hu: (low, high) of a CT slice's grey values, in Hounsfield units.
        percentiles: (low, high) of an MR or US slice's grey values.
        field_of_view: ``mask_margin`` cuts every slice to its mask plus `margin_mm`, so that a crop's border
            cannot tell where the organ ends (trap 14 of the design); ``scan`` keeps whole slices.
        margin_mm: that margin, in millimetres.
        patient_rule: ``auto``, ``case``, ``pairs``, ``re:REGEX`` or ``csv:FILE:COLUMN`` (see `patients.py`).
        val_fraction: share of the patients that validate.
        test_fraction: share of the patients that test; unused with `test_source`.
        test_source: a folder of scans that are all test.
        seed: of the split.
        min_voxels: a structure of fewer voxels is too small.
        min_extent_vox: a structure with a shorter box side, in voxels, is too small.
        max_part_percent: a second part larger than this share of the largest means several parts.
        keep: reasons among REASONS that do not lead to an exclusion (they are still noted).
        on_error: ``error`` stops with a list of all broken cases; ``skip`` records them in the manifest.
        num_workers: processes; 0 works in this one; None decides by the size of the work.

    Raises:
        ValueError: a value is not one of these.
    """

    structures: str | None = None
    layout: str = "auto"
    modality: str | None = None
    window_hu: tuple[float, float] = (-160.0, 240.0)
    percentiles: tuple[float, float] = (0.5, 99.5)
    field_of_view: str = "mask_margin"
    margin_mm: float = 3.0
    patient_rule: str = "auto"
    val_fraction: float = 0.1
    test_fraction: float = 0.2
    test_source: Path | None = None
    seed: int = 0
    min_voxels: int = 64
    min_extent_vox: int = 4
    max_part_percent: float = 5.0
    keep: tuple[str, ...] = ()
    on_error: str = "error"
    num_workers: int | None = None

    def __post_init__(self) -> None:
        _one_of("layout", self.layout, LAYOUTS)
        _one_of("field_of_view", self.field_of_view, FIELDS_OF_VIEW)
        _one_of("on_error", self.on_error, ("error", "skip"))
        if self.modality is not None:
            _one_of("modality", self.modality, MODALITIES)
        for reason in self.keep:
            _one_of("keep", reason, REASONS)
        if not 0 < self.margin_mm < 1000:
            raise ValueError(f"margin_mm must be above 0 and below 1000, got {self.margin_mm}")
        for name in ("val_fraction", "test_fraction"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 0 and below 1, got {getattr(self, name)}")
        if self.val_fraction + self.test_fraction >= 1:
            raise ValueError(
                f"val_fraction {self.val_fraction} and test_fraction {self.test_fraction} leave no training"
            )
        for name in ("min_voxels", "min_extent_vox"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.max_part_percent < 0:
            raise ValueError(f"max_part_percent must be at least 0, got {self.max_part_percent}")
        if self.num_workers is not None and self.num_workers < 0:
            raise ValueError(f"num_workers must be at least 0, got {self.num_workers}")

    @property
    def crop_margin_mm(self) -> float | None:
        """How far around the structures a volume is kept, in mm; None keeps the whole scan.

        At least 9 mm beyond the slice's own margin, so that a slice through a gently warped volume does not
        leave what was kept.
        """
        return None if self.field_of_view == "scan" else max(12.0, self.margin_mm + 9.0)


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}.{nearest(value, allowed)}")
