"""What a user asks of a preset, as one checked record."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sam3d_objects.adapter.presets.freeze import check_strategies
from sam3d_objects.adapter.presets.preset import AUTO, Preset
from sam3d_objects.adapter.presets.recipe import ALPHA_PER_RANK, NONE, RECIPE_NAMES, Recipe
from sam3d_objects.files import nearest
from sam3d_objects.model.lora import LayerOptions

_LISTS = ("parts", "roles", "freeze")


@dataclass(frozen=True)
class PresetConfig:
    """Which preset, and what of it is otherwise. What is left out is as the preset says.

    Args:
        preset: a name (`preset_names`), `auto`, or the path of a YAML file.
        parts: of the preset, such as CLIP's `vision`; empty: those that the model has.
        roles: of the preset, such as `qkv` and `fc1`; empty: the preset's own choice.
        freeze: strategies (`STRATEGIES`), what trains fully beside the adapters; empty: the preset's.
        recipe: `small`, `medium`, `large`, `auto` (by counting samples), or `none`.
        rank, alpha, dropout: of LoRA, before the recipe's and the preset's. An alpha that is left out is the
            preset's, or twice the rank where rank or recipe is given.

    A text stands for a list of names, separated by commas.

    Raises:
        ValueError: a strategy or recipe that does not exist, or a number out of range.
    """

    preset: str = AUTO
    parts: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    freeze: tuple[str, ...] = ()
    recipe: str = NONE
    rank: int | None = None
    alpha: float | None = None
    dropout: float | None = None

    def __post_init__(self) -> None:
        for name in _LISTS:
            object.__setattr__(self, name, _names(getattr(self, name), f"PresetConfig.{name}"))
        check_strategies(self.freeze, "PresetConfig.freeze")
        if self.recipe not in RECIPE_NAMES:
            hint = nearest(str(self.recipe), RECIPE_NAMES)
            raise ValueError(f"PresetConfig.recipe is one of {', '.join(RECIPE_NAMES)}; got {self.recipe!r}.{hint}")
        given = {name: getattr(self, name) for name in ("rank", "alpha", "dropout")}
        LayerOptions(**{name: value for name, value in given.items() if value is not None})  # checks them

    def layer_options(self, preset: Preset, recipe: Recipe | None) -> LayerOptions:
        """Return the options of the adapted layers: what is given here, else the recipe's, else the preset's."""
        usual = recipe or preset
        rank = usual.rank if self.rank is None else self.rank
        alpha = usual.alpha if self.rank is None else ALPHA_PER_RANK * rank
        return LayerOptions(
            rank,
            alpha if self.alpha is None else self.alpha,
            usual.dropout if self.dropout is None else self.dropout,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain JSON values, for `AdapterMeta.training`; `from_dict` is the way back."""
        record = dataclasses.asdict(self)
        return record | {name: list(record[name]) for name in _LISTS}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "PresetConfig":
        """Read a record as `to_dict` or a YAML file gives it.

        Raises:
            ValueError: an unknown key (the error names the nearest) or a value out of range.
        """
        names = [f.name for f in dataclasses.fields(cls)]
        for key in record:
            if key not in names:
                raise ValueError(f"PresetConfig has {', '.join(names)}; got {key!r}.{nearest(key, names)}")
        return cls(**record)


def _names(values: Any, where: str) -> tuple[str, ...]:
    listed = values.split(",") if isinstance(values, str) else values
    if not isinstance(listed, list | tuple) or not all(isinstance(name, str) for name in listed):
        raise ValueError(f"{where} is a list of names, got {values!r}")
    return tuple(name.strip() for name in listed if name.strip())
