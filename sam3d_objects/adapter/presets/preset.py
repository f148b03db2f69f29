"""A preset: which layers of a kind of model are adapted, what its heads and norms are, and what is its backbone.

Presets are YAML files beside this one, and users may write their own::

    description: a ViT segmenter
    parts:                  # one or more (CLIP has two)
      backbone:
        targets:            # role -> spellings; of each role at least one must be there
          qkv: ['*.blocks.*.attn.qkv', '*.layers.*.attention.[qkv]_proj']
        norms: ['*.blocks.*.norm[12]']
    heads: [class_head]
    backbone: [encoder]     # what stays frozen under `backbone_only`
    freeze: [heads, norms]

Patterns are those of `inject_lora`: globs or `re:` regular expressions of whole dotted paths.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from sam3d_objects.adapter.presets.freeze import ADAPTERS_ONLY, check_strategies
from sam3d_objects.files import nearest
from sam3d_objects.model.lora import LayerOptions
from sam3d_objects.model.lora.targets import path_test

AUTO = "auto"
_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Part:
    """A part of a model that can be adapted alone.

    Attributes:
        targets: role -> patterns, each a spelling of the same layers in another library.
        heads, norms: patterns of what the strategies `heads` and `norms` train with this part.
    """

    targets: Mapping[str, tuple[str, ...]]
    heads: tuple[str, ...] = ()
    norms: tuple[str, ...] = ()


@dataclass(frozen=True)
class Preset:
    """What is known of a kind of model.

    Attributes:
        name, description: for people.
        parts: name -> part.
        roles: of the parts' roles, those that are adapted if nobody says otherwise; empty: all.
        heads: patterns of the heads of the whole model.
        backbone: patterns of what stays frozen under `backbone_only`; empty: the preset does not know.
        freeze: the strategies if nobody says otherwise.
        rank, alpha, dropout: of LoRA, if nobody says otherwise and there is no recipe.
    """

    name: str
    description: str
    parts: Mapping[str, Part]
    roles: tuple[str, ...] = ()
    heads: tuple[str, ...] = ()
    backbone: tuple[str, ...] = ()
    freeze: tuple[str, ...] = (ADAPTERS_ONLY,)
    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    all_roles: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        where = f"the preset {self.name!r}"
        if not self.parts or not all(part.targets for part in self.parts.values()):
            raise ValueError(f"{where} has no targets: name at least one part with one role")
        roles = tuple(dict.fromkeys(role for part in self.parts.values() for role in part.targets))
        object.__setattr__(self, "all_roles", roles)
        self.check_roles(self.roles)
        check_strategies(self.freeze, where)
        LayerOptions(self.rank, self.alpha, self.dropout)  # checks its own
        for pattern in self.patterns:
            path_test(pattern)

    @property
    def patterns(self) -> list[str]:
        """Every pattern of the preset."""
        own = [*self.heads, *self.backbone]
        for part in self.parts.values():
            own += [*part.heads, *part.norms, *(pattern for found in part.targets.values() for pattern in found)]
        return own

    def check_roles(self, roles: tuple[str, ...]) -> None:
        """Raise ValueError for a role that no part has; the nearest is named."""
        _check_known(f"the preset {self.name!r}: role", roles, self.all_roles)

    def check_parts(self, parts: tuple[str, ...]) -> None:
        """Raise ValueError for a part that the preset does not have; the nearest is named."""
        _check_known(f"the preset {self.name!r}: part", parts, tuple(self.parts))

    def targets(self, roles: tuple[str, ...] = ()) -> tuple[str, ...]:
        """Return every spelling of some roles (empty: the preset's own choice), in all parts.

        Raises:
            ValueError: there is no such role.
        """
        self.check_roles(roles)
        wanted = roles or self.roles or self.all_roles
        found = [p for part in self.parts.values() for role in wanted for p in part.targets.get(role, ())]
        return tuple(dict.fromkeys(found))


def preset_names() -> tuple[str, ...]:
    """Return the names of the presets that come with the package; `auto`, which has no file, is the last."""
    return (*sorted(path.stem for path in _FOLDER.glob("*.yaml")), AUTO)


def load_preset(name: str) -> Preset:
    """Read a preset of the package by its name, or one of your own by the path of its YAML file.

    Raises:
        ValueError: no such preset (the nearest is named), or a file that is not one.
    """
    own = Path(name)
    path = own if own.suffix in (".yaml", ".yml") else _FOLDER / f"{name}.yaml"
    if path.parent == _FOLDER and path.stem not in preset_names():
        known = preset_names()
        raise ValueError(f"there is no preset {name!r}; there are {', '.join(known)}.{nearest(name, known)}")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"the preset {path} can't be read: {error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid YAML: {error}") from error
    return _preset(path.stem, content, f"the preset {path}")


def _preset(name: str, content: Any, where: str) -> Preset:
    values = _fields(Preset, content, where)
    parts = _mapping(values.get("parts", {}), f"{where}: parts")
    values["parts"] = {key: _part(part, f"{where}: part {key!r}") for key, part in parts.items()}
    for key in ("roles", "heads", "backbone", "freeze"):
        if key in values:
            values[key] = _texts(values[key], f"{where}: {key}")
    values.setdefault("description", "")
    return Preset(name=name, **values)


def _part(content: Any, where: str) -> Part:
    values = _fields(Part, content, where)
    targets = _mapping(values.get("targets", {}), f"{where}: targets")
    values["targets"] = {role: _texts(patterns, f"{where}: {role}") for role, patterns in targets.items()}
    for key in ("heads", "norms"):
        if key in values:
            values[key] = _texts(values[key], f"{where}: {key}")
    return Part(**values)


def _fields(cls: type, content: Any, where: str) -> dict[str, Any]:
    known = tuple(f.name for f in dataclasses.fields(cls) if f.init and f.name != "name")
    values = dict(_mapping(content, where))
    _check_known(f"{where}: key", tuple(values), known)
    return values


def _mapping(content: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ValueError(f"{where} holds names and values, got {content!r}")
    return content


def _texts(content: Any, where: str) -> tuple[str, ...]:
    texts = (content,) if isinstance(content, str) else content
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{where} is a list of texts, got {content!r}")
    return tuple(texts)


def _check_known(what: str, names: tuple[str, ...], known: tuple[str, ...]) -> None:
    for name in names:
        if name not in known:
            raise ValueError(f"{what} {name!r} does not exist; there are {', '.join(known)}.{nearest(name, known)}")
