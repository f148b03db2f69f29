"""A running average of the trained weights (Polyak averaging), which flow models sample better from."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """The exponential moving average of some parameters, in float32.

    Args:
        parameters: name -> parameter; the average starts at their values.
        decay: weight of the past, in (0, 1). Early on it is (1 + n) / (10 + n) for update n, where that is
            smaller, so that the untrained start is forgotten quickly.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        self.parameters, self.decay, self.updates = dict(parameters), decay, 0
        self.average = {name: p.detach().float().clone() for name, p in self.parameters.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the current weights."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, parameter in self.parameters.items():
            self.average[name].lerp_(parameter.detach().float(), 1 - decay)
        self.updates += 1

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Let the model carry the averaged weights inside the block, and its own again afterwards."""
        own = {name: p.detach().clone() for name, p in self.parameters.items()}
        self._copy_in(self.average)
        try:
            yield
        finally:
            self._copy_in(own)

    @torch.no_grad()
    def _copy_in(self, values: Mapping[str, Tensor]) -> None:
        for name, parameter in self.parameters.items():
            parameter.copy_(values[name])
