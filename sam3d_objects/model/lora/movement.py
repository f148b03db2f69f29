"""Proof that training moves what it may and nothing else, by digests of every tensor before and after."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from sam3d_objects.model.lora.paths import collapse_paths
from sam3d_objects.model.lora.trainable import trainable_names


@dataclass(frozen=True)
class Movement:
    """Names of tensors, compared over some training steps.

    Attributes:
        moved: trainable, and changed.
        still: trainable, but as they were: no gradient reached them (or too few steps: of a fresh adapter,
            the first step without weight decay moves B alone).
        leaked: not trainable, and changed all the same.
    """

    moved: tuple[str, ...]
    still: tuple[str, ...]
    leaked: tuple[str, ...]

    def require(self) -> None:
        """Raise ValueError, naming the tensors, unless all that may move has moved and nothing else."""
        problems = []
        if self.still:
            problems.append(f"trainable, but they did not move: {', '.join(collapse_paths(self.still))}")
        if self.leaked:
            problems.append(f"frozen, but they moved: {', '.join(collapse_paths(self.leaked))}")
        if problems:
            raise ValueError(f"training moved the wrong tensors; {'; '.join(problems)}")


def tensor_digests(model: nn.Module) -> dict[str, str]:
    """Return a digest of the bytes of every parameter and buffer, by name."""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {name: _digest(tensor) for name, tensor in tensors.items()}


def movement(before: Mapping[str, str], model: nn.Module) -> Movement:
    """Compare a model with `tensor_digests` of its former state.

    Raises:
        ValueError: the model's tensors have other names now, because layers were adapted or merged between.
    """
    after = tensor_digests(model)
    if before.keys() != after.keys():
        changed = collapse_paths(sorted(before.keys() ^ after.keys()))[:8]
        raise ValueError(f"the model has other tensors than before: {', '.join(changed)}")
    may_move = set(trainable_names(model))
    changed_names = {name for name in after if after[name] != before[name]}
    return Movement(
        moved=tuple(name for name in after if name in may_move and name in changed_names),
        still=tuple(name for name in after if name in may_move and name not in changed_names),
        leaked=tuple(name for name in after if name not in may_move and name in changed_names),
    )


def _digest(tensor: torch.Tensor) -> str:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return hashlib.blake2b(flat.view(torch.uint8).numpy().data, digest_size=16).hexdigest()
