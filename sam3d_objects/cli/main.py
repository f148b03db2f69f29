"""The table of commands, and the boundary where an error becomes one line and an exit status."""

import inspect
import os
import sys
from collections.abc import Callable, Sequence

from sam3d_objects import __version__

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
    "report": report,
    "reconstruct": reconstruct,
    "doctor": doctor,
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
    if words[0] not in COMMANDS:
        from sam3d_objects.files import nearest

        print(f"sam3d-med: error: no command {words[0]!r}.{nearest(words[0], COMMANDS)}", file=sys.stderr)
        return WRONG_USE
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
    lines = [f"  {name:<12}{(inspect.getdoc(function) or '').splitlines()[0]}" for name, function in COMMANDS.items()]
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


def _complain(program: str, error: Exception, status: int) -> int:
    if os.environ.get("SAM3D_TRACEBACK"):
        raise error
    print(f"{program}: error: {error}", file=sys.stderr)
    return status
