"""Models that have names and nothing else: what other libraries call the layers of their blocks."""

from collections.abc import Iterable

from torch import nn

C = 32


def tree(layers: dict[str, nn.Module]) -> nn.Module:
    """Build a model that has these modules at these dotted paths."""
    root = nn.Module()
    for path, layer in layers.items():
        parent, *parts = root, *path.split(".")
        for part in parts[:-1]:
            if part not in parent._modules:
                parent.add_module(part, nn.Module())
            parent = parent.get_submodule(part)
        parent.add_module(parts[-1], layer)
    return root


def linear(paths: Iterable[str]) -> nn.Module:
    """Build a model of linear layers."""
    return tree({path: nn.Linear(C, C) for path in paths})


def blocks(prefix: str, leaves: Iterable[str], count: int = 2) -> list[str]:
    """Return the paths of layers in numbered blocks."""
    return [f"{prefix}.{number}.{leaf}" for number in range(count) for leaf in leaves]
