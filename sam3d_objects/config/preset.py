"""Presets: a YAML file with a section for each stage, checked against the options dataclasses.

::

    train:
      epochs: 30
      lora_rank: 8
    evaluate:
      samples: 8

What a section leaves out keeps its default. A section or a key that does not exist is an error that
names the nearest one. A section may also be written as Lightning does, `class_path: sam3d_objects.config.TrainOptions`
with the keys under `init_args`; the class must be the section's own, and is never imported.
"""

import dataclasses
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from sam3d_objects.files import nearest

from .evaluate import EvaluateOptions
from .option import alternatives
from .prepare import PhantomOptions, PrepareOptions
from .reconstruct import ReconstructOptions
from .targets import TargetOptions
from .train import TrainOptions

SECTIONS: dict[str, type] = {
    "phantoms": PhantomOptions,
    "prepare": PrepareOptions,
    "targets": TargetOptions,
    "train": TrainOptions,
    "evaluate": EvaluateOptions,
    "reconstruct": ReconstructOptions,
}


def read_preset(path: Path) -> dict[str, dict[str, Any]]:
    """Read a preset's sections as plain values, with every section and key known to exist.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not YAML, not made of sections, or has an unknown section or key.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid YAML: {error}") from error
    content = {} if content is None else content
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected sections ({', '.join(SECTIONS)}), got {type(content).__name__}")
    for section, values in content.items():
        _check_known(f"{path}: section", str(section), SECTIONS)
        if not isinstance(values, dict):
            raise ValueError(f"{path}: section {section!r} holds keys and values, got {values!r}")
        values = content[section] = _init_args(values, SECTIONS[section], f"{path}: section {section!r}")
        for key in values:
            _check_known(f"{path}: {section}: key", str(key), option_names(SECTIONS[section]))
    return content


def _init_args(values: dict[str, Any], cls: type, where: str) -> dict[str, Any]:
    """Return a section's keys and values, taken out of `class_path` and `init_args` where it is written so."""
    if "class_path" not in values:
        return values
    if str(values["class_path"]).rpartition(".")[2] != cls.__name__ or set(values) - {"class_path", "init_args"}:
        raise ValueError(f"{where}: expected class_path {cls.__name__} and init_args, got {values!r}")
    arguments = values.get("init_args") or {}
    if not isinstance(arguments, dict):
        raise ValueError(f"{where}: init_args holds keys and values, got {arguments!r}")
    return arguments


def load_preset(path: Path, overrides: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Make the options of every section from a preset and dotted overrides (`{"train.epochs": 3}`).

    Raises:
        ValueError: as `read_preset`; an override that names no option; a value that an option refuses.
    """
    sections: dict[str, dict[str, Any]] = {name: {} for name in SECTIONS} | read_preset(path)
    for dotted, value in (overrides or {}).items():
        section, _, key = dotted.partition(".")
        known = [f"{name}.{key}" for name, cls in SECTIONS.items() for key in option_names(cls)]
        _check_known("override", dotted, known)
        sections[section] = sections[section] | {key: value}
    return {name: make_options(cls, sections[name]) for name, cls in SECTIONS.items()}


def make_options(cls: type, values: Mapping[str, Any]) -> Any:
    """Make one options dataclass from plain values, as YAML or a command line has them.

    Lists become tuples, texts become paths or numbers where the option is one; the rest is for the
    dataclass to check.

    Raises:
        ValueError: an unknown key (the nearest is named), or a value that the option refuses.
    """
    names = option_names(cls)
    for key in values:
        _check_known(f"{cls.__name__}: key", key, names)
    hints = typing.get_type_hints(cls)
    return cls(**{key: _convert(value, hints[key]) for key, value in values.items()})


def option_names(cls: type) -> list[str]:
    """Return the names of the options of a dataclass, in order."""
    return [field.name for field in dataclasses.fields(cls)]


def _convert(value: Any, hint: Any) -> Any:
    kinds = alternatives(hint)
    if isinstance(value, list):
        return tuple(value)
    if isinstance(value, str) and Path in kinds:
        return Path(value)
    if isinstance(value, str) and float in kinds:
        # YAML 1.1 reads 1e-3 (no dot) as a text.
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _check_known(what: str, name: str, known: Iterable[str]) -> None:
    known = list(known)
    if name not in known:
        hint = nearest(name, known) or f" There are: {', '.join(known)}"
        raise ValueError(f"{what} {name!r} does not exist.{hint}")
