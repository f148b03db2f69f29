"""What an adapter remembers beside its tensors, so that using it never needs it retyped."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sam3d_objects import __version__
from sam3d_objects.files import nearest

_CHOICES = {
    "field_of_view": ("scan", "mask_margin"),
    "modality": ("ct", "mr", "us"),
    "pointmap": ("plane", "drop"),
}
_Record = TypeVar("_Record")


@dataclass(frozen=True, kw_only=True)
class InferenceContract:
    """How a slice must be prepared, and the model sampled, for the adapter to mean anything.

    Args:
        field_of_view: `scan`, or `mask_margin` where the slice is cut to the mask plus `margin_mm`.
        margin_mm: what is kept around the mask.
        modality: `ct` (image windowed by `window_hu`), `mr` or `us` (by `percentiles` of the image).
        window_hu: lowest and highest intensity of CT, Hounsfield units.
        percentiles: lowest and highest intensity of MR and ultrasound, percent.
        planes: names of the slice planes that it was trained on (see `volume.planes` for their axes).
        steps: Euler steps of the sampler.
        guidance: strength s of classifier-free guidance; 0: none.
        samples: how many samples are averaged (K).
        threshold: share of the samples that makes a voxel solid, in (0, 1).
        fit: whether the mesh is moved and scaled to agree with the given mask.
        pointmap: `plane`, or `drop` where its tokens are zeroed.
        scene_scale_mm: what is 1 in the pointmap and the pose, the same for all slices, so that the network sees
            millimetres; 0: each slice's own extent, as the released model was trained.

    Raises:
        ValueError: a value out of range.
    """

    field_of_view: str
    modality: str
    margin_mm: float = 3.0
    window_hu: tuple[float, float] = (-160.0, 240.0)
    percentiles: tuple[float, float] = (0.5, 99.5)
    planes: tuple[str, ...] = ("axial", "coronal", "sagittal")
    steps: int = 8
    guidance: float = 0.0
    samples: int = 1
    threshold: float = 0.5
    fit: bool = True
    pointmap: str = "plane"
    scene_scale_mm: float = 0.0

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                raise ValueError(f"contract.{name} is one of {', '.join(choices)}; got {value!r}")
        for name in ("window_hu", "percentiles", "planes"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        ranges = {
            "margin_mm": self.margin_mm >= 0,
            "window_hu": len(self.window_hu) == 2 and self.window_hu[0] < self.window_hu[1],
            "percentiles": len(self.percentiles) == 2 and 0 <= self.percentiles[0] < self.percentiles[1] <= 100,
            "planes": len(self.planes) > 0,
            "steps": self.steps >= 1,
            "guidance": self.guidance >= 0,
            "samples": self.samples >= 1,
            "threshold": 0 < self.threshold < 1,
            "scene_scale_mm": 0 <= self.scene_scale_mm < math.inf,
        }
        for name, good in ranges.items():
            if not good:
                raise ValueError(f"contract.{name} is out of range: {getattr(self, name)!r}")

    def of_base(self) -> "InferenceContract":
        """Return how the base model is used beside the adapter: alike, but with each slice's own scale, as trained."""
        return dataclasses.replace(self, scene_scale_mm=0.0)


@dataclass(frozen=True, kw_only=True)
class AdapterMeta:
    """What was trained, on what, for which use, and how well it did.

    Args:
        stage: the stage of training: `structure`, ...
        base_name: the base model's name: `tiny`, or that of a released folder.
        base_fingerprint: of the base BEFORE adapters were injected; a model with another one is refused.
        organs: what it was trained on, at least one.
        contract: how it must be used.
        metrics: metric -> value, or organ -> metric -> value; None where there is no value (JSON has no NaN).
        training: anything else worth keeping, as JSON: options, data fingerprint, seed, epoch.
        version: of this library.

    Raises:
        ValueError: an empty field, or a metric that is not finite.
    """

    stage: str
    base_name: str
    base_fingerprint: str
    organs: tuple[str, ...]
    contract: InferenceContract
    metrics: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    version: str = __version__

    def __post_init__(self) -> None:
        object.__setattr__(self, "organs", tuple(self.organs))
        for name in ("stage", "base_name", "base_fingerprint", "organs"):
            if not getattr(self, name):
                raise ValueError(f"an adapter's {name} can't be empty")
        for name, value in self.metrics.items():
            for number in value.values() if isinstance(value, Mapping) else [value]:
                if number is not None and not math.isfinite(number):
                    raise ValueError(f"metric {name} holds {number}: give None where there is no value")

    @property
    def data_fingerprint(self) -> str | None:
        """The fingerprint of the prepared data that it was trained on; None where that was not recorded."""
        data = self.training.get("data")
        return data.get("fingerprint") if isinstance(data, Mapping) else None

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain JSON values; `from_dict` is the way back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "AdapterMeta":
        """Read what `to_dict` gave; ValueError names a key that is unknown, missing or out of range."""
        fields = dict(record)
        if "contract" in fields:
            fields["contract"] = _build(InferenceContract, dict(fields["contract"]), "contract")
        return _build(cls, fields, "adapter")


def _build(kind: type[_Record], record: Mapping[str, Any], where: str) -> _Record:
    fields = dataclasses.fields(kind)  # type: ignore[arg-type]  # Only dataclasses come here.
    names = [f.name for f in fields]
    for key in record:
        if key not in names:
            raise ValueError(f"{where} has the unknown key {key!r}.{nearest(key, names)}")
    needed = [f.name for f in fields if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING]
    missing = [name for name in needed if name not in record]
    if missing:
        raise ValueError(f"{where} lacks {', '.join(missing)}")
    return kind(**record)
