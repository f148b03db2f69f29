"""What to adapt and how, as one checked record that an adapter remembers."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sam3d_objects.files import nearest
from sam3d_objects.model.lora.layers import check_layer_options

_LAYER_KEYS = ("rank", "alpha", "dropout")


@dataclass(frozen=True)
class LayerOptions:
    """Rank, alpha and dropout of one adapted layer; ValueError where one is out of range."""

    rank: int = 4
    alpha: float = 8.0
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_layer_options(self.rank, self.alpha, self.dropout)

    def changed(self, pattern: str, changes: Mapping[str, Any]) -> "LayerOptions":
        """Return these options with some replaced.

        Raises:
            ValueError: an unknown key (the error names the pattern and the nearest key) or a value out of
                range.
        """
        for key in changes:
            if key not in _LAYER_KEYS:
                hint = nearest(key, _LAYER_KEYS)
                raise ValueError(f"{pattern!r} has {key!r}; LoRA knows {', '.join(_LAYER_KEYS)}.{hint}")
        return dataclasses.replace(self, **changes)


@dataclass(frozen=True)
class LoRAConfig:
    """Which layers get an adapter of which size, and what trains fully beside them.

    Args:
        rank, alpha, dropout: of every layer that `patterns` does not say otherwise for.
        target_modules: globs or regular expressions of full paths; None is every attention projection, or, if
            there are `patterns`, what these match. Empty, and no `patterns`: no LoRA at all, only `trained_modules`.
        patterns: pattern -> some of rank, alpha, dropout. What it matches is adapted; of several, the last
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

    def __post_init__(self) -> None:
        for pattern, changes in self.patterns.items():
            self.defaults.changed(pattern, changes)
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
        return LayerOptions(self.rank, self.alpha, self.dropout)

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
