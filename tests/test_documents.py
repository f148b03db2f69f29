"""What the documents say can be typed, followed and imported: commands parse, links lead somewhere, names exist."""

import ast
import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from sam3d_objects.cli.main import COMMANDS
from sam3d_objects.cli.parser import CommandParser

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "markdown").glob("*.md"))]
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
# These have commands of their own below `sam3d-med NAME`, or pass what follows on to another program.
SCRIPTS = {
    "./run_medical_pipeline.sh": "pipeline",
    "scripts/train_medical.py": "train",
    "scripts/eval_medical.py": "eval",
    "scripts/reconstruct.py": "reconstruct",
}


def blocks(page: Path, language: str) -> Iterator[str]:
    """The fenced blocks of a language."""
    yield from re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def commands(page: Path) -> Iterator[list[str]]:
    """The words of each `sam3d-med` command and each script in a page's shell blocks."""
    for block in blocks(page, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if "sam3d-med" in words:
                yield words[words.index("sam3d-med") + 1 :]
            for script, command in SCRIPTS.items():
                if script in words:
                    yield [command, *words[words.index(script) + 1 :]]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_can_be_typed(page: Path) -> None:
    for words in commands(page):
        if words[0].startswith("-") or words[1:2] in (["--help"], ["-h"]):
            continue
        assert words[0] in COMMANDS, f"{page.name}: no command {words[0]!r}"
        if words[0] == "adapter":  # has commands of its own, with their own tests
            continue
        CommandParser(f"sam3d-med {words[0]}", COMMANDS[words[0]]).parse(words[1:])


def test_commands_are_found() -> None:
    assert sum(len(list(commands(page))) for page in PAGES) > 30


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if not re.match(r"[a-z]+:", target):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_names_can_be_imported(page: Path) -> None:
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sam3d_objects"):
                module = importlib.import_module(str(node.module))
                for alias in node.names:
                    assert hasattr(module, alias.name), f"{page.name}: {node.module} has no {alias.name}"
