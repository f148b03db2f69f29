"""Who may import whom: data takes one way through the house, and this test walks it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = "sam3d_objects"
REPOSITORY = Path(__file__).resolve().parent.parent

# Part of the package -> the parts that it may import. The leaves may be imported by all.
LEAVES = {"arrays", "files", "process_memory"}
ALLOWED: dict[str, set[str]] = {
    "arrays": set(),
    "files": set(),
    "process_memory": set(),
    "config": set(),
    "volume": set(),
    "mesh": {"volume"},
    "dataset": {"volume", "mesh"},
    "synthetic": {"volume", "mesh"},
    "model": set(),
    "adapter": {"model"},
    "training": {"volume", "mesh", "dataset", "model", "adapter", "config"},
    "federated": {"model", "adapter", "config", "training"},
    "reconstruct": {"volume", "mesh", "model", "adapter"},
    "evaluation": {"volume", "mesh", "dataset", "config"},
    "report": set(),
    "pretraining": {"volume", "mesh", "synthetic", "model", "adapter", "reconstruct"},
    "assets": set(),
}
FREE = {"cli"}
# These stay importable where torch is not wanted: at the door, for geometry, and for reading results.
WITHOUT_TORCH = {*LEAVES, "config", "volume", "mesh", "dataset", "synthetic", "report"}


def imported_modules(path: Path, package: tuple[str, ...]) -> Iterator[str]:
    """Yield the full name of every module that a file imports, wherever in the file.

    Args:
        path: a Python file.
        package: the packages that it is in, outermost first, for relative imports.
    """
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            # `from package import part` names the part in the alias.
            yield from (f"{module}.{alias.name}" for alias in node.names)


def package_files() -> list[Path]:
    """Every Python file of the package."""
    return sorted((REPOSITORY / PACKAGE).rglob("*.py"))


def violations(part: str, modules: Iterator[str]) -> list[str]:
    """Return what a file of `part` imports against the rules."""
    found = []
    for module in modules:
        words = module.split(".")
        if words[0] in ("scripts", "tests"):
            found.append(module)
        elif words[0] == PACKAGE and part not in FREE and words[1:] not in ([], ["__version__"]):
            if words[1] not in {part, *LEAVES, *ALLOWED[part]}:
                found.append(module)
        elif words[0] == "torch" and part in WITHOUT_TORCH:
            found.append(module)
    return found


@pytest.mark.parametrize("path", package_files(), ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_a_file_imports_only_what_its_part_may(path: Path) -> None:
    inside = path.relative_to(REPOSITORY).with_suffix("").parts
    part = inside[1]
    if part == "__init__":
        assert not [name for name in imported_modules(path, inside[:-1]) if name.startswith(PACKAGE)]
        return
    assert part in ALLOWED or part in FREE, f"{part} is not in the plan: add it to the rules"
    wrong = violations(part, imported_modules(path, inside[:-1]))
    assert not wrong, f"{part} may import {sorted(ALLOWED.get(part, set()) | LEAVES)}, not {wrong}"


def test_the_plan_has_no_circle() -> None:
    order: list[str] = []
    remaining = {part: set(targets) for part, targets in ALLOWED.items()}
    while remaining:
        free = [part for part, targets in remaining.items() if targets <= set(order)]
        assert free, f"these import each other: {sorted(remaining)}"
        order += free
        for part in free:
            del remaining[part]


def test_scripts_import_only_the_package() -> None:
    for path in sorted((REPOSITORY / "scripts").glob("*.py")):
        for module in imported_modules(path, ()):
            assert module.split(".")[0] not in ("scripts", "tests"), f"{path.name} imports {module}"


@pytest.mark.parametrize(
    ("part", "source", "wrong"),
    [
        ("volume", "from sam3d_objects.mesh import Mesh", ["sam3d_objects.mesh.Mesh"]),
        ("volume", "from ..mesh.frame import ObjectFrame", ["sam3d_objects.mesh.frame.ObjectFrame"]),
        ("volume", "from .. import model", ["sam3d_objects.model"]),
        ("volume", "def f():\n    import torch.nn", ["torch.nn"]),
        ("model", "import sam3d_objects.cli", ["sam3d_objects.cli"]),
        ("training", "from tests.conftest import x", ["tests.conftest.x"]),
        ("mesh", "from sam3d_objects.files import nearest\nfrom .frame import ObjectFrame", []),
        ("mesh", "from ..volume import Volume", []),
    ],
)
def test_the_walk_sees_every_kind_of_import(tmp_path: Path, part: str, source: str, wrong: list[str]) -> None:
    path = tmp_path / "module.py"
    path.write_text(source)
    assert violations(part, imported_modules(path, (PACKAGE, part))) == wrong
