"""What to adapt and how, as one checked record that an adapter remembers."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sam3d_objects.files import nearest
from sam3d_objects.model.lora.options import LAYER_KEYS, LayerOptions


@dataclass(frozen=True)
class LoRAConfig:
    """Which layers get an adapter of which size, and what trains fully beside them.

    Args:
        rank, alpha, dropout, rslora, init, dora, parts: of every layer that `patterns` does not say otherwise for
            (see `LayerOptions`).
        target_modules: globs or regular expressions of full paths; None is every attention projection, or, if
            there are `patterns`, what these match. Empty, and no `patterns`: no LoRA at all, only `trained_modules`.
        patterns: pattern -> some of a layer's options. What it matches is adapted; of several, the last
            one wins.
        trained_modules: globs or regular expressions of modules or parameters that train fully (heads,
            norms).

    Raises:
        ValueError: a value out of range or an unknown key.
    """

    rank: int = 4
    alpha: float = 8.0
    dropout: float = 0.0
    target_modules: tuple[str, ...] | None = None
    patterns: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    trained_modules: tuple[str, ...] = ()
    rslora: bool = False
    init: str = "kaiming"
    dora: bool = False
    parts: str = ""

    def __post_init__(self) -> None:
        defaults = self.defaults
        for pattern, changes in self.patterns.items():
            defaults.changed(pattern, changes)
        if self.target_modules is not None:
            object.__setattr__(self, "target_modules", _texts(self.target_modules, "target_modules"))
        object.__setattr__(self, "trained_modules", _texts(self.trained_modules, "trained_modules"))

    @property
    def without_lora(self) -> bool:
        """Whether no layer gets an adapter, so that what trains does so fully."""
        return self.target_modules == () and not self.patterns

    @property
    def defaults(self) -> LayerOptions:
        """The options of a layer that no pattern says otherwise for."""
        return LayerOptions(**{key: getattr(self, key) for key in LAYER_KEYS})

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain JSON values; `from_dict` is the way back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "LoRAConfig":
        """Read a record as `to_dict` or a YAML file gives it.

        Raises:
            ValueError: an unknown key (the error names the nearest) or a value out of range.
        """
        names = [f.name for f in dataclasses.fields(cls)]
        for key in record:
            if key not in names:
                raise ValueError(f"LoRAConfig has {', '.join(names)}; got {key!r}.{nearest(key, names)}")
        return cls(**record)


def _texts(values: Any, name: str) -> tuple[str, ...]:
    texts = (values,) if isinstance(values, str) else tuple(values)
    for text in texts:
        if not isinstance(text, str):
            raise ValueError(f"LoRAConfig.{name} holds patterns as text, got {text!r}")
    return texts
