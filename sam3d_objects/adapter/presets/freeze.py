"""Freeze strategies: what of a model trains fully beside its adapters."""

from collections.abc import Collection, Iterable

from torch import nn

from sam3d_objects.files import nearest
from sam3d_objects.model.lora.targets import no_match_message, path_test

ADAPTERS_ONLY, HEADS, NORMS, BACKBONE_ONLY = "adapters_only", "heads", "norms", "backbone_only"
STRATEGIES = {
    ADAPTERS_ONLY: "the adapters train, and nothing else",
    HEADS: "the adapters train, and the model's heads fully",
    NORMS: "the adapters train, and the backbone's normalisation layers fully",
    BACKBONE_ONLY: "only the backbone is frozen: its adapters train, and everything outside it fully",
}
"""Strategy -> what trains under it. All but the first can be combined."""


def check_strategies(names: Collection[str], where: str) -> None:
    """Check a choice of strategies.

    Raises:
        ValueError: one does not exist, or `adapters_only` is combined with another.
    """
    for name in names:
        if name not in STRATEGIES:
            raise ValueError(f"{where} knows {', '.join(STRATEGIES)}; got {name!r}.{nearest(name, STRATEGIES)}")
    if ADAPTERS_ONLY in names and len(set(names)) > 1:
        raise ValueError(f"{where}: {ADAPTERS_ONLY} goes with no other strategy; got {', '.join(names)}")


def parameters_of(model: nn.Module, patterns: Iterable[str]) -> set[str]:
    """Return the names of the parameters that patterns find, themselves or through a module around them."""
    tests = [path_test(pattern) for pattern in patterns]
    return {name for name, _ in model.named_parameters() if any(test(p) for p in _around(name) for test in tests)}


def checked_parameters_of(model: nn.Module, patterns: tuple[str, ...], what: str) -> set[str]:
    """Do as `parameters_of`, for patterns that are spellings of one thing.

    Raises:
        ValueError: none of them finds anything; the nearest paths are named.
    """
    found = parameters_of(model, patterns)
    if not found:
        listed = "it names none" if not patterns else _nothing(model, patterns)
        raise ValueError(f"{what}: not in this {type(model).__name__}; {listed}")
    return found


def as_patterns(model: nn.Module, names: Collection[str]) -> tuple[str, ...]:
    """Return patterns that find exactly these parameters: modules where all of one are meant, else parameters."""
    left, patterns = set(names), []
    # Parents come before their children, so the outermost module takes its parameters first.
    for path, module in model.named_modules():
        own = [f"{path}.{name}" for name, _ in module.named_parameters()]
        if path and own and left.issuperset(own):
            patterns.append(path)
            left.difference_update(own)
    return (*patterns, *(name for name, _ in model.named_parameters() if name in left))


def fixed_parameters(model: nn.Module) -> set[str]:
    """Return the names of the parameters that the model itself holds fixed (such as sine-cosine positions).

    A model that is frozen as a whole says nothing of that, and gives none.
    """
    fixed = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    return fixed if len(fixed) < sum(1 for _ in model.parameters()) else set()


def _around(name: str) -> list[str]:
    """Return a parameter's name and the paths of the modules around it."""
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts) + 1)]


def _nothing(model: nn.Module, patterns: tuple[str, ...]) -> str:
    places = sorted({name.rpartition(".")[0] for name, _ in model.named_parameters()} - {""})
    return no_match_message(patterns[0], [], places, "module or parameter")
