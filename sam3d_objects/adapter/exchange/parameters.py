"""An adapter as what sites send each other: ordered arrays, and a manifest that says what they are. NumPy alone."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sam3d_objects.arrays import AnyArray

_SHOWN = 8


@dataclass(frozen=True)
class Key:
    """One array of an adapter: its name in the model, shape and dtype (`float32`)."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def nbytes(self) -> int:
        """Size of the array."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Layer:
    """How one layer is adapted: its update is scaling B A, with A of `rank` rows for each of its `parts`.

    `parts` is empty where the layer is one; otherwise it has a letter for each block of rows (`LayerOptions.parts`).
    """

    rank: int
    scaling: float
    parts: str = ""


@dataclass(frozen=True)
class Manifest:
    """What an adapter's arrays are; two adapters can be averaged only where all of it is equal.

    Attributes:
        base_fingerprint: of the model that is adapted, before adapters went in.
        keys: of the arrays, in their order.
        layers: path -> how the layer there is adapted.
        held: SHA-256 of what belongs to the adapter and is not exchanged (a frozen A); empty where all is exchanged.
    """

    base_fingerprint: str
    keys: tuple[Key, ...]
    layers: Mapping[str, Layer]
    held: str = ""

    @property
    def rank(self) -> int:
        """The largest rank of a layer; 0 where no layer has an adapter."""
        return max((layer.rank for layer in self.layers.values()), default=0)

    @property
    def nbytes(self) -> int:
        """Size of all arrays."""
        return sum(key.nbytes for key in self.keys)


@dataclass(frozen=True, eq=False)
class AdapterParameters:
    """An adapter's numbers.

    Attributes:
        manifest: what they are.
        arrays: in the order of `manifest.keys`.
        samples: how many training samples stand behind them; their weight in an average.

    Raises:
        ValueError: arrays that are not what the manifest says, or hold NaN or infinity; each is named.
    """

    manifest: Manifest
    arrays: tuple[AnyArray, ...]
    samples: int = 0

    def __post_init__(self) -> None:
        keys = self.manifest.keys
        if len(self.arrays) != len(keys):
            raise ValueError(f"an adapter of {len(keys)} arrays came with {len(self.arrays)}")
        if isinstance(self.samples, bool) or not isinstance(self.samples, int) or self.samples < 0:
            raise ValueError(f"samples must be a whole number of 0 or more, got {self.samples!r}")
        problems = []
        for key, array in zip(keys, self.arrays, strict=True):
            if array.shape != key.shape or array.dtype.name != key.dtype:
                problems.append(f"{key.name} is {array.shape} {array.dtype}, not {key.shape} {key.dtype}")
            elif not np.isfinite(array).all():
                problems.append(f"{key.name} holds NaN or infinity")
        if problems:
            raise ValueError(f"these arrays are no adapter: {_some(problems)}")

    @property
    def by_name(self) -> dict[str, AnyArray]:
        """Name -> array, in order."""
        return {key.name: array for key, array in zip(self.manifest.keys, self.arrays, strict=True)}


def check_same(expected: Manifest, came: Manifest, strict: bool = True) -> None:
    """Check that an adapter is of the kind that is expected.

    Args:
        expected, came: the manifests.
        strict: False lets arrays be missing or left over. Another base, rank, scaling, shape or dtype is an error in
            any case.

    Raises:
        ValueError: it is not; the message says in what, with both values.
    """
    if came.base_fingerprint != expected.base_fingerprint:
        raise ValueError(
            f"another base model: expected the fingerprint {expected.base_fingerprint}, got {came.base_fingerprint}; "
            "all sites must adapt the same base"
        )
    problems = _layer_differences(expected.layers, came.layers, strict)
    if not problems:
        problems = _key_differences(expected.keys, came.keys, strict)
    if not problems and strict and came.held != expected.held:
        problems = ["the frozen part of the adapter is another one (another seed, or other values to begin with)"]
    if problems:
        raise ValueError(f"another adapter than expected: {_some(problems)}; all sites need the same LoRA options")


def _layer_differences(expected: Mapping[str, Layer], came: Mapping[str, Layer], strict: bool) -> list[str]:
    problems = []
    for path, wanted in expected.items():
        given = came.get(path)
        if given is None:
            problems += [f"{path} is not adapted"] if strict else []
        elif given.rank != wanted.rank:
            problems.append(f"{path} has rank {given.rank}, expected rank {wanted.rank}")
        elif not math.isclose(given.scaling, wanted.scaling, rel_tol=1e-9):
            problems.append(f"{path} is scaled by {given.scaling:g} (alpha / rank), expected {wanted.scaling:g}")
        elif given.parts != wanted.parts:
            problems.append(f"{path} has the parts {given.parts!r}, expected {wanted.parts!r}")
    return problems + [f"{path} is adapted, and should not be" for path in came if strict and path not in expected]


def _key_differences(expected: tuple[Key, ...], came: tuple[Key, ...], strict: bool) -> list[str]:
    wanted, given = {key.name: key for key in expected}, {key.name: key for key in came}
    problems = [f"{name} is missing" for name in wanted if strict and name not in given]
    problems += [f"{name} is left over" for name in given if strict and name not in wanted]
    for name in (name for name in wanted if name in given):
        one, other = wanted[name], given[name]
        if one != other:
            problems.append(f"{name} is {other.shape} {other.dtype}, expected {one.shape} {one.dtype}")
    if not problems and strict and expected != came:
        problems.append("the arrays come in another order")
    return problems


def _some(problems: list[str]) -> str:
    rest = f" and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
    return "; ".join(problems[:_SHOWN]) + rest
