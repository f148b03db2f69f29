"""How one layer is adapted: rank, scaling, dropout, where its matrices start, and which rows they reach."""

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sam3d_objects.files import nearest

DEFAULT_ADAPTER = "default"
INITS = ("kaiming", "gaussian", "pissa")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
# What torch's container of modules calls its own: an adapter of this name could not be kept in it.
_TAKEN = ("T_destination", "call_super_init", "dump_patches", "training")


@dataclass(frozen=True)
class LayerOptions:
    """Options of one adapted layer.

    Args:
        rank: r, at least 1; of each part, where there are `parts`.
        alpha: the update is scaled by alpha / r.
        dropout: probability of dropping an input of the update while training, in [0, 1).
        rslora: scale by alpha / sqrt(r) instead (Kalajdzievski 2023, arXiv 2312.03732, eq. 5), so that a higher rank
            does not shrink the update.
        init: `kaiming`, uniform as nn.Linear draws its weight (Hu et al. 2021); `gaussian`, normal with a standard
            deviation of 0.02; both with B = 0. `pissa`, the r largest singular triplets of the weight (Meng et al.
            2024, arXiv 2404.02948, eq. 2 and 3).
        dora: learn the length of each output row apart from its direction (Liu et al. 2024, arXiv 2402.09353, eq. 5).
        parts: a letter for each of the equal blocks of output rows of a fused weight, `_` for one that is left alone:
            `qkv` gives q, k and v an adapter each, `q_v` only q and v. Empty: one adapter for all rows.

    Raises:
        ValueError: a value out of range.
    """

    rank: int = 4
    alpha: float = 8.0
    dropout: float = 0.0
    rslora: bool = False
    init: str = "kaiming"
    dora: bool = False
    parts: str = ""

    def __post_init__(self) -> None:
        check_layer_options(self.rank, self.alpha, self.dropout)
        if self.init not in INITS:
            raise ValueError(f"LoRA init is {', '.join(INITS)}; got {self.init!r}")
        for name in ("rslora", "dora"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"LoRA {name} is true or false, got {getattr(self, name)!r}")
        if not isinstance(self.parts, str) or (self.parts and not self.parts.strip("_")):
            raise ValueError(f"LoRA parts has a letter for each adapted block, as 'qkv' or 'q_v'; got {self.parts!r}")

    @property
    def scaling(self) -> float:
        """The factor of the update: alpha / rank, or alpha / sqrt(rank) with `rslora`."""
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)

    @property
    def places(self) -> tuple[int, ...]:
        """Which of the blocks of output rows are adapted; (0,) where there are no parts."""
        return tuple(i for i, letter in enumerate(self.parts or "a") if letter != "_")

    @property
    def blocks(self) -> int:
        """In how many equal blocks of rows the weight is seen, adapted or not."""
        return len(self.parts) or 1

    @property
    def total_rank(self) -> int:
        """The rank of all parts together."""
        return self.rank * len(self.places)

    def changed(self, pattern: str, changes: Mapping[str, Any]) -> "LayerOptions":
        """Return these options with some replaced.

        Raises:
            ValueError: an unknown key (the error names the pattern and the nearest key) or a value out of
                range.
        """
        for key in changes:
            if key not in LAYER_KEYS:
                hint = nearest(key, LAYER_KEYS)
                raise ValueError(f"{pattern!r} has {key!r}; LoRA knows {', '.join(LAYER_KEYS)}.{hint}")
        return dataclasses.replace(self, **changes)

    def to_list(self) -> list[Any]:
        """Return plain JSON values: rank, alpha, dropout and, where others differ from the default, a dict of them."""
        usual = LayerOptions()
        others = {key: getattr(self, key) for key in LAYER_KEYS[3:] if getattr(self, key) != getattr(usual, key)}
        return [self.rank, self.alpha, self.dropout, *([others] if others else [])]

    @classmethod
    def from_list(cls, values: list[Any]) -> "LayerOptions":
        """Read what `to_list` gave; ValueError where it is something else."""
        if len(values) not in (3, 4) or (len(values) == 4 and not isinstance(values[3], dict)):
            raise ValueError(f"options of a layer are rank, alpha, dropout and maybe a dict, got {values!r}")
        return cls(*values[:3]).changed("options of a layer", values[3] if len(values) == 4 else {})


LAYER_KEYS = tuple(field.name for field in dataclasses.fields(LayerOptions))


def check_layer_options(rank: int, alpha: float, dropout: float) -> None:
    """Raise ValueError unless rank is a whole number from 1, alpha finite and positive, dropout in [0, 1)."""
    if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
        raise ValueError(f"LoRA rank is a whole number of at least 1, got {rank!r}")
    if not (isinstance(alpha, int | float) and math.isfinite(alpha) and alpha > 0):
        raise ValueError(f"LoRA alpha is a finite number above 0, got {alpha!r}")
    if not (isinstance(dropout, int | float) and 0 <= dropout < 1):
        raise ValueError(f"LoRA dropout lies in [0, 1), got {dropout!r}")


def check_adapter_name(name: str) -> None:
    """Raise ValueError unless an adapter may be called so: 1 to 64 letters, digits, `_` or `-`."""
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name in _TAKEN:
        raise ValueError(f"an adapter's name has 1 to 64 letters, digits, _ or -; got {name!r}")
