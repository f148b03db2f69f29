"""From a typed function to a command line, and from a command line to the function's arguments.

A parameter that is an options dataclass becomes one flag a field (`--epochs`); where a function has several
of them the flags are dotted (`--train.epochs`), and the names in `SHORTHANDS` stand for the field of that
name in all of them. Any other parameter is `Annotated[type, "help"]` and becomes a flag of its own, required
when it has no default. `--config FILE` presets the options from YAML; flags win over it.
"""

import argparse
import dataclasses
import inspect
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ActionYesNo, ArgumentParser

from sam3d_objects.config import SECTIONS, alternatives, make_options, option_names, read_preset
from sam3d_objects.files import nearest

# Name -> its help, where the first field of that name does not say it for all.
SHORTHANDS = {
    "classes": "",
    "modality": "",
    "patient_rule": "",
    "field_of_view": "",
    "test_nifti": "",
    "base": "",
    "seed": "seed of everything random: the demo's phantoms, the split, training, slices and samples",
    "epochs": "",
    "batch_size": "",
    "lr": "",
    "device": "",
    "lora_rank": "",
    "lora_alpha": "",
    "resume": "",
    "num_workers": "processes (threads in training) beside the main one; default: as the work needs",
}
DOTTED = "every option of this step as --{prefix}NAME or in the preset; the help of its own command lists them"
_METAVARS = {int: "N", float: "X", str: "TEXT", Path: "PATH"}


class CommandParser:
    """The command line of one command.

    Args:
        program: how the command is called, for the help (`sam3d-med train`).
        function: the command; its docstring is the help text.
    """

    def __init__(self, program: str, function: Callable[..., None]) -> None:
        self.function = function
        hints = typing.get_type_hints(function, include_extras=True)
        parameters = inspect.signature(function).parameters
        self.plain = {name: hint for name, hint in hints.items() if name in parameters and not _is_options(hint)}
        self.options = {name: hint for name, hint in hints.items() if name in parameters and _is_options(hint)}
        self.prefixes = {name: f"{name}." if len(self.options) > 1 else "" for name in self.options}
        self.parser = ArgumentParser(
            prog=program,
            usage="%(prog)s [options]",
            description=inspect.getdoc(function),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            exit_on_error=False,
            allow_abbrev=False,
        )
        self.flags = ["--help", "--config"]
        self.parser.add_argument("--config", metavar="FILE", help="options from a YAML preset; flags win over it")
        for name, hint in self.plain.items():
            self._add_plain(name, hint, parameters[name].default)
        self.shorthands = self._add_shorthands() if len(self.options) > 1 else ()
        for name, cls in self.options.items():
            self._add_options(cls, self.prefixes[name])

    def parse(self, arguments: Sequence[str]) -> dict[str, Any]:
        """Return the function's arguments.

        Raises:
            ValueError: an unknown option (the nearest is named), a value of the wrong kind, or a bad preset.
            SystemExit: `--help` was asked for, and printed.
        """
        config = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        config.add_argument("--config", type=Path)
        chosen, rest = config.parse_known_args(arguments)
        rest = self._known(rest)
        preset = read_preset(chosen.config) if chosen.config else {}
        try:
            parsed = self.parser.parse_args(rest)
        except argparse.ArgumentError as error:
            raise ValueError(" ".join(str(error).split())) from error
        values = {name: parsed[name] for name in self.plain}
        given = {name: parsed[name] for name in self.shorthands if parsed[name] is not None}
        for name, cls in self.options.items():
            section = dict(preset.get(_section(cls), {}))
            section |= {key: given[key] for key in option_names(cls) if key in given}
            for key in option_names(cls):
                value = parsed[self.prefixes[name] + key]
                if value is not None:
                    section[key] = value
            values[name] = make_options(cls, section)
        return values

    def _add_plain(self, name: str, hint: Any, default: Any) -> None:
        kind, help_text = typing.get_args(hint)
        required = default is inspect.Parameter.empty
        self._add(self.parser, f"--{name}", kind, help_text, None if required else default, required)

    def _add_shorthands(self) -> tuple[str, ...]:
        group = self.parser.add_argument_group("Often used options")
        for name in SHORTHANDS:
            owner = next(cls for cls in self.options.values() if name in option_names(cls))
            field = next(field for field in dataclasses.fields(owner) if field.name == name)
            help_text = SHORTHANDS[name] or _help(field)
            self._add(group, f"--{name}", typing.get_type_hints(owner)[name], help_text)
        return tuple(SHORTHANDS)

    def _add_options(self, cls: type, prefix: str) -> None:
        title = (inspect.getdoc(cls) or cls.__name__).splitlines()[0].rstrip(".")
        group = self.parser.add_argument_group(title, DOTTED.format(prefix=prefix) if prefix else None)
        hints = typing.get_type_hints(cls)
        # No default here: what is not given comes from the preset, and else from the dataclass.
        for field in dataclasses.fields(cls):
            help_text = argparse.SUPPRESS if prefix else _help(field)
            self._add(group, f"--{prefix}{field.name}", hints[field.name], help_text)

    def _add(
        self, target: Any, flag: str, kind: Any, help_text: str, default: Any = None, required: bool = False
    ) -> None:
        """Add one flag; a yes/no option gets `--name` and `--no_name`, a list takes several words."""
        self.flags.append(flag)
        kinds = alternatives(kind)
        settings: dict[str, Any] = {"default": default, "help": help_text.replace("%", "%%")}
        if bool in kinds:
            self.flags.append(f"--no_{flag[2:]}")
            target.add_argument(flag, action=ActionYesNo(yes_prefix="", no_prefix="no_"), **settings)
            return
        if typing.get_origin(kinds[0]) is tuple:
            kind = typing.get_args(kinds[0])[0]
            settings["nargs"] = "+"
        metavar = _METAVARS[next(known for known in _METAVARS if known in alternatives(kind))]
        target.add_argument(flag, type=kind, required=required, metavar=metavar, **settings)

    def _known(self, arguments: Sequence[str]) -> list[str]:
        """Return the words with `--train.no_fit` as jsonargparse calls it (`--no_train.fit`).

        Raises:
            ValueError: an option that does not exist; the nearest is named.
        """
        words = []
        for word in arguments:
            name, equals, value = word.partition("=")
            section, dot, key = name.removeprefix("--").rpartition(".")
            if dot and key.startswith("no_"):
                name = f"--no_{section}.{key.removeprefix('no_')}"
            if name.startswith("--") and name not in self.flags:
                raise ValueError(f"unknown option {name}.{nearest(name, self.flags)} (see --help)")
            words.append(name + equals + value)
        return words


def _is_options(hint: Any) -> bool:
    return hint in SECTIONS.values()


def _section(cls: type) -> str:
    return next(name for name, known in SECTIONS.items() if known is cls)


def _help(field: "dataclasses.Field[Any]") -> str:
    default = field.default
    shown = " ".join(map(str, default)) if isinstance(default, tuple) else default
    choices = field.metadata["choices"]
    listed = f"; one of {', '.join(choices)}" if choices else ""
    return f"{field.metadata['help']}{listed}" + ("" if shown in (None, "") else f" [{shown}]")
