"""The table of commands, and the boundary where an error becomes one line and an exit status."""

import inspect
import os
import sys
from collections.abc import Callable, Mapping, Sequence

from sam3d_objects import __version__

from .adapter import ADAPTER_COMMANDS
from .compare import compare
from .doctor import doctor
from .evaluate import evaluate, report
from .folds import folds
from .pipeline import pipeline
from .prepare import phantoms, prepare
from .reconstruct import reconstruct
from .targets import targets
from .train import train

COMMANDS: dict[str, Callable[..., None]] = {
    "pipeline": pipeline,
    "phantoms": phantoms,
    "prepare": prepare,
    "folds": folds,
    "targets": targets,
    "train": train,
    "eval": evaluate,
    "compare": compare,
    "report": report,
    "reconstruct": reconstruct,
    "doctor": doctor,
}
# Name -> its commands, and what they are about.
GROUPS: dict[str, tuple[dict[str, Callable[..., None]], str]] = {
    "adapter": (ADAPTER_COMMANDS, "Adapters that are there: list, tell, compare, add up, export, push and pull them."),
}
WRONG_USE, FAILED, INTERRUPTED = 2, 1, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `sam3d-med COMMAND ...` and return the exit status.

    Args:
        arguments: the words after the program's name; None takes them from the command line.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words in ([], ["-h"], ["--help"]):
        print(overview())
        return 0 if words else WRONG_USE
    if words == ["--version"]:
        print(f"sam3d-medical {__version__}")
        return 0
    if words[0] in GROUPS:
        return _run_of_group(words[0], words[1:])
    if words[0] not in COMMANDS:
        return _no_command("sam3d-med", words[0], [*COMMANDS, *GROUPS])
    return run(f"sam3d-med {words[0]}", COMMANDS[words[0]], words[1:])


def run(program: str, command: Callable[..., None], arguments: Sequence[str]) -> int:
    """Run one command and return the exit status: 0, 1 (it failed), 2 (wrong use) or 130 (interrupted).

    An error that a user can cause is one line; `SAM3D_TRACEBACK=1` shows where it came from.
    """
    from .parser import CommandParser

    # Before torch is loaded: threads that spin while they wait make a small model 25 times slower on a machine that
    # does something else as well (two threads on two busy cores: 14 s a mesh instead of 0.6 s).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        values = CommandParser(program, command).parse(arguments)
    except (ValueError, OSError) as error:
        return _complain(program, error, WRONG_USE)
    except SystemExit as asked_for_help:
        return int(asked_for_help.code or 0)
    try:
        command(**values)
    except (ValueError, OSError, FloatingPointError) as error:
        return _complain(program, error, FAILED)
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return INTERRUPTED
    return 0


def overview() -> str:
    """The text of `sam3d-med --help`: what each command does, in one line."""
    lines = _listed(COMMANDS) + [f"  {name:<12}{about}" for name, (_, about) in GROUPS.items()]
    return "\n".join(
        [
            "usage: sam3d-med COMMAND [options]        sam3d-med COMMAND --help",
            "",
            "Fine-tune SAM 3D Objects on medical scans: one marked slice in, a mesh in patient mm out.",
            "Research use, not for diagnosis.",
            "",
            "commands:",
            *lines,
            "",
            "Start with: sam3d-med pipeline --out demo",
        ]
    )


def group_overview(group: str) -> str:
    """The text of `sam3d-med GROUP --help`."""
    commands, about = GROUPS[group]
    head = f"usage: sam3d-med {group} COMMAND [options]        sam3d-med {group} COMMAND --help"
    return "\n".join([head, "", about, "", "commands:", *_listed(commands)])


def _run_of_group(group: str, words: Sequence[str]) -> int:
    commands, _ = GROUPS[group]
    if not words or words[0] in ("-h", "--help"):
        print(group_overview(group))
        return 0 if words else WRONG_USE
    name = words[0]
    if name not in commands:
        return _no_command(f"sam3d-med {group}", name, list(commands))
    return run(f"sam3d-med {group} {name}", commands[name], as_flags(commands[name], words[1:]))


def as_flags(function: Callable[..., None], words: Sequence[str]) -> list[str]:
    """Return a command line in which words before the first flag are named: `diff A B` is `diff --first A --second B`.

    A first parameter that takes several values takes all of them.
    """
    count = next((index for index, word in enumerate(words) if word.startswith("-")), len(words))
    leading, rest = list(words[:count]), list(words[count:])
    names = list(inspect.signature(function).parameters)
    if "tuple" in str(inspect.signature(function).parameters[names[0]].annotation):
        return [f"--{names[0]}", *leading, *rest] if leading else rest
    named = [word for pair in zip((f"--{name}" for name in names), leading, strict=False) for word in pair]
    return [*named, *leading[len(names) :], *rest]


def _listed(commands: Mapping[str, Callable[..., None]]) -> list[str]:
    return [f"  {name:<12}{(inspect.getdoc(function) or '').splitlines()[0]}" for name, function in commands.items()]


def _no_command(program: str, word: str, known: Sequence[str]) -> int:
    from sam3d_objects.files import nearest

    print(f"{program}: error: no command {word!r}.{nearest(word, known)}", file=sys.stderr)
    return WRONG_USE


def _complain(program: str, error: Exception, status: int) -> int:
    if os.environ.get("SAM3D_TRACEBACK"):
        raise error
    # Of several processes that train together the one that failed prints it (`training.processes`).
    if not getattr(error, "told_elsewhere", False):
        print(f"{program}: error: {error}", file=sys.stderr)
    return status
