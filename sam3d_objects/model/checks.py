"""Checks of plain values that people write into a base model's configs; an error names the key that it was given."""

import math
from collections.abc import Mapping
from numbers import Integral, Real
from typing import TypeGuard


def check_whole(name: str, value: object) -> None:
    """Raise ValueError unless `value` is a whole number from 1 on."""
    if not (_is_number(value, Integral) and value >= 1):
        raise ValueError(f"{name} must be a whole number from 1 on, got {value!r}")


def check_number(name: str, value: object, above: float | None = None) -> None:
    """Raise ValueError unless `value` is a finite number, above a bound where one is given."""
    wanted = "a finite number" if above is None else f"a finite number above {above:g}"
    if not (_is_number(value, Real) and math.isfinite(value) and (above is None or value > above)):
        raise ValueError(f"{name} must be {wanted}, got {value!r}")


def check_numbers(name: str, values: object, count: int, above: float | None = None) -> None:
    """Raise ValueError unless `values` is a list or tuple of so many finite numbers, above a bound where one is given.

    The error names the first that is not.
    """
    if not isinstance(values, list | tuple) or len(values) != count:
        raise ValueError(f"{name}: expected {count} numbers, got {values!r}")
    for index, value in enumerate(values):
        check_number(f"{name}[{index}]", value, above)


def check_mapping(name: str, value: object) -> None:
    """Raise ValueError unless `value` is a mapping whose keys are text."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ValueError(f"{name} must be a mapping with names as keys, got {value!r}")


def _is_number(value: object, kind: type) -> TypeGuard[float]:
    return isinstance(value, kind) and not isinstance(value, bool)
