"""What the one training loop asks of a stage.

A stage is a small object: which module is trained, what a batch is, what the loss is, what validation
measures, what is saved. Adapting the structure flow, pretraining a VAE and training a baseline network are
stages; none of them subclasses the loop.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

Batch = dict[str, Tensor]
Say = Callable[[str], None]


class Samples(Protocol):
    """A source of samples, such as `TS_SAM3D_Dataset`; each is a function of (seed, epoch, index)."""

    def __len__(self) -> int:
        """Return the number of samples in an epoch."""
        ...

    def __getitem__(self, index: int) -> Any:
        """Return one sample; called from several threads at once."""
        ...

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose samples the next calls return."""
        ...


class Stage(Protocol):
    """One thing that can be trained."""

    @property
    def name(self) -> str:
        """`structure`, `latent`, ..."""
        ...

    @property
    def module(self) -> nn.Module:
        """The module that is called, adapted and given gradients."""
        ...

    @property
    def train_samples(self) -> Samples:
        """What it learns from."""
        ...

    @property
    def validation_samples(self) -> Sequence[Any]:
        """Samples of other patients, without augmentation; empty where there are none."""
        ...

    def set_trainable(self) -> str:
        """Freeze what is not trained, inject adapters, and return a summary for people.

        The global generators are seeded before it is called, so that adapters start alike in every run.
        """
        ...

    def prepare(self, device: torch.device, say: Say) -> None:
        """Do what is needed once before the first batch: build targets, move frozen modules to the device.

        Raises:
            ValueError: targets miss their bar; the message names the cases.
        """
        ...

    def make_batch(self, samples: Sequence[Any]) -> Batch:
        """Turn B samples into CPU tensors whose first axis is B; pure, called from several threads."""
        ...

    def sample_names(self, samples: Sequence[Any]) -> list[str]:
        """Name each sample (case, organ, slice), for the error that stops at a bad one."""
        ...

    def loss(self, network: nn.Module, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss (a mean over the samples) and its parts, each a scalar.

        Args:
            network: `module` as the loop wrapped it (mixed precision, several processes): call it instead of
                `module`.
            batch: what `make_batch` gave, on the device.
            generator: on the CPU; the only source of random numbers besides dropout's.
        """
        ...

    def validate(self, network: nn.Module, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Return scalar means over the batch, `loss` among them; the generator starts alike every time."""
        ...

    def save(self, folder: Path, metrics: Mapping[str, float]) -> None:
        """Write what was trained, and the metrics it reached, as a folder that replaces an older one."""
        ...

    def record(self) -> dict[str, Any]:
        """Return, as JSON, what makes this run this run: options, base and data fingerprints."""
        ...

    def counts(self) -> dict[str, str]:
        """Return lines for people: patients, samples, parameters."""
        ...
