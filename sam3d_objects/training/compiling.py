"""Compiling the trained network."""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import nn

from sam3d_objects.model.latent.flow import LatentFlow
from sam3d_objects.model.latent.transformer import SparseTransformer

# Dropout draws what it draws without compiling.
_OPTIONS: dict[str, str | int | bool | Callable[..., Any]] = {"fallback_random": True}


def compile_network(module: nn.Module) -> nn.Module:
    """Return a network that computes what a module computes, but for rounding, by compiled kernels.

    The first steps of each batch size take minutes; the module's own names stay.

    Raises:
        ValueError: it works on voxels.
    """
    for part in module.modules():
        if isinstance(part, LatentFlow | SparseTransformer):
            raise ValueError(
                f"{type(part).__name__} works on voxels, as many as a batch has: it would be compiled anew for each. "
                "Turn compile off for this stage"
            )
    # Not dynamic: shapes are constant but for the last batch of an epoch.
    return cast(nn.Module, torch.compile(module, dynamic=False, options=_OPTIONS))
