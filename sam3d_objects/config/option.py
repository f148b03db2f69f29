"""One field of an options dataclass: its default, what it means, and what it may be.

An options dataclass is frozen and checks itself when it is made, so that everything behind the command
line works with values that are known to be good::

    @dataclass(frozen=True)
    class PhantomOptions:
        cases: int = option(24, "how many phantoms", minimum=3)

        def __post_init__(self) -> None:
            check_options(self)
"""

import dataclasses
import math
import typing
from pathlib import Path
from types import NoneType, UnionType
from typing import Any

_KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    Path: "a path",
    NoneType: "nothing",
}


def option(
    default: Any,
    help: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] | None = None,
) -> Any:
    """Return a dataclass field that carries its help text and its limits.

    Args:
        default: the value when nobody says otherwise.
        help: one line for `--help`, unit included.
        minimum, maximum: inclusive limits, for a number or for each number of a tuple.
        choices: the only values allowed, for a text.
    """
    metadata = {"help": help, "minimum": minimum, "maximum": maximum, "choices": choices}
    return dataclasses.field(default=default, metadata=metadata)


def check_options(options: Any) -> None:
    """Check the type and the limits of each field of a dataclass made of `option` fields.

    Raises:
        ValueError: a value is not what it should be; the message names the option, what was expected and
            what came.
    """
    hints = typing.get_type_hints(type(options))
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        limits = field.metadata
        name = f"{type(options).__name__}.{field.name}"
        _check_type(name, value, hints[field.name])
        if limits["choices"] is not None and value not in limits["choices"]:
            raise ValueError(f"{name} is one of {', '.join(limits['choices'])}; got {value!r}")
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, int | float) and not isinstance(number, bool):
                _check_number(name, number, limits["minimum"], limits["maximum"])


def alternatives(hint: Any) -> tuple[Any, ...]:
    """Return the members of a union type, or the type alone."""
    return typing.get_args(hint) if isinstance(hint, UnionType) else (hint,)


def _matches(value: Any, kind: Any) -> bool:
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, tuple):
            return False
        kinds = typing.get_args(kind)
        if kinds[-1] is Ellipsis:
            kinds = kinds[:1] * len(value)
        return len(value) == len(kinds) and all(map(_matches, value, kinds))
    if isinstance(value, bool) or kind is bool:
        return isinstance(value, bool) and kind is bool
    return isinstance(value, int | float if kind is float else kind)


def _describe(kind: Any) -> str:
    if typing.get_origin(kind) is tuple:
        kinds = typing.get_args(kind)
        how_many = "a list of" if kinds[-1] is Ellipsis else f"{len(kinds)} times"
        return f"{how_many} {_KINDS[kinds[0]]}"
    return _KINDS[kind]


def _check_type(name: str, value: Any, hint: Any) -> None:
    kinds = alternatives(hint)
    if not any(_matches(value, kind) for kind in kinds):
        raise ValueError(f"{name} is {' or '.join(map(_describe, kinds))}; got {value!r}")


def _check_number(name: str, number: float, minimum: float | None, maximum: float | None) -> None:
    if not math.isfinite(number):
        raise ValueError(f"{name} is a finite number; got {number}")
    if minimum is not None and number < minimum:
        raise ValueError(f"{name} is at least {minimum}; got {number}")
    if maximum is not None and number > maximum:
        raise ValueError(f"{name} is at most {maximum}; got {number}")
