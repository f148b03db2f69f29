"""LoRA's configurations from YAML, plain or as Lightning writes it, and from dotted overrides.

Three ways to write one thing::

    preset: eomt                          # plain
    rank: 8

    class_path: sam3d_objects.adapter.presets.PresetConfig      # Lightning's
    init_args: {preset: eomt, rank: 8}

    load_config("eomt.yaml", ["rank=8", "freeze=[heads, norms]"])  # and from a command line

A `class_path` is looked up among the classes below and never imported: a file from a stranger runs nothing.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from sam3d_objects.adapter.presets.config import PresetConfig
from sam3d_objects.files import nearest
from sam3d_objects.model.lora import LoRAConfig

_CLASSES: dict[str, type[PresetConfig] | type[LoRAConfig]] = {"PresetConfig": PresetConfig, "LoRAConfig": LoRAConfig}
_PACKAGE = "sam3d_objects"
_CLASS_PATH, _INIT_ARGS = "class_path", "init_args"
_PATTERNS = "patterns"


def load_config(
    source: str | os.PathLike[str] | Mapping[str, Any], overrides: Sequence[str] = (), *, at: str = ""
) -> PresetConfig | LoRAConfig:
    """Read what to adapt and how.

    Args:
        source: a YAML file, or what one holds. Plain keys are a `PresetConfig` where they name a preset, and a
            `LoRAConfig` otherwise; `class_path` says it itself.
        overrides: `key=value`, the value as YAML has it (`rank=8`, `freeze=[heads, norms]`); a leading
            `init_args.` may be there or not. One option of a pattern is `patterns.PATTERN.rank=4`, whatever dots
            the pattern has.
        at: where in a larger file it stands, dotted (`model.init_args.adapter`); empty: the file is nothing else.

    Raises:
        ValueError: no such file or place, not YAML, an unknown class or key (the nearest is named), or a value out
            of range.
    """
    where = "the configuration" if isinstance(source, Mapping) else str(source)
    content: Any = source if isinstance(source, Mapping) else _read(Path(source))
    for key in at.split(".") if at else ():
        if not isinstance(content, Mapping) or key not in content:
            known = list(content) if isinstance(content, Mapping) else []
            raise ValueError(f"{where} has no {key!r} on the way to {at}.{nearest(key, map(str, known))}")
        content = content[key]
    if content is None:
        content = {}
    if not isinstance(content, Mapping):
        raise ValueError(f"{where} holds keys and values, got {type(content).__name__}")
    name, values = _unwrapped(content, where)
    for override in overrides:
        _override(values, override)
    cls = _CLASSES[name or ("PresetConfig" if "preset" in values else "LoRAConfig")]
    try:
        return cls.from_dict(values)
    except TypeError as error:
        raise ValueError(f"{where}: a value of {cls.__name__} is of the wrong kind: {error}") from error


def _read(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"the configuration {path} can't be read: {error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid YAML: {error}") from error


def _unwrapped(content: Mapping[str, Any], where: str) -> tuple[str, dict[str, Any]]:
    """Return the class's name (empty: not said) and its arguments."""
    if _CLASS_PATH not in content:
        return "", dict(content)
    extra = set(content) - {_CLASS_PATH, _INIT_ARGS}
    if extra:
        raise ValueError(f"{where}: beside {_CLASS_PATH} stands {_INIT_ARGS} only; got {', '.join(sorted(extra))}")
    class_path, values = str(content[_CLASS_PATH]), content.get(_INIT_ARGS) or {}
    package, _, name = class_path.rpartition(".")
    if name not in _CLASSES or (package and package.split(".")[0] != _PACKAGE):
        known = ", ".join(f"{cls.__module__.rpartition('.')[0]}.{key}" for key, cls in _CLASSES.items())
        raise ValueError(f"{where}: {_CLASS_PATH} is one of {known}; got {class_path!r}.{nearest(name, _CLASSES)}")
    if not isinstance(values, Mapping):
        raise ValueError(f"{where}: {_INIT_ARGS} holds keys and values, got {values!r}")
    return name, dict(values)


def _override(values: dict[str, Any], override: str) -> None:
    dotted, equals, text = override.removeprefix("--").partition("=")
    if not (dotted and equals):
        raise ValueError(f"an override is KEY=VALUE, got {override!r}")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"the override {override!r} has no YAML value: {error}") from error
    key, dot, rest = dotted.removeprefix(f"{_INIT_ARGS}.").partition(".")
    if not dot:
        values[key] = value
        return
    pattern, _, option = rest.rpartition(".")
    if key != _PATTERNS or not pattern:
        raise ValueError(f"the override {dotted!r} is no key; one with dots is {_PATTERNS}.PATTERN.OPTION")
    patterns = {name: dict(options) for name, options in dict(values.get(_PATTERNS) or {}).items()}
    patterns.setdefault(pattern, {})[option] = value
    values[_PATTERNS] = patterns
