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
        """Turn B samples into CPU tensors; pure, called from several threads.

        Their first axis is B, or that of the B samples packed after each other, with their lengths beside.
        """
        ...

    def sample_names(self, samples: Sequence[Any]) -> list[str]:
        """Name each sample (case, organ, slice), for the error that stops at a bad one."""
        ...

    def draw(self, count: int, generator: torch.Generator) -> Batch:
        """Draw every random number that the losses of `count` samples need, but for dropout's.

        Args:
            count: samples of the whole batch, those of other processes included: a process is given the rows
                of its own samples.
            generator: on the CPU; the only source.

        Returns:
            CPU tensors whose first axis is `count`: noise, times, which conditions are kept; int64 seeds where
            the shape of the noise varies from sample to sample.
        """
        ...

    def validation_draw(self, count: int, generator: torch.Generator) -> Batch:
        """Draw what `validate` needs, as `draw` does; the generator starts alike at every validation."""
        ...

    def loss(self, network: nn.Module, batch: Batch, draws: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss (a mean over the B samples) and its parts, each a scalar.

        But for dropout it is a function of its arguments.

        Args:
            network: `module` as the loop wrapped it (mixed precision, several processes): call it instead of
                `module`.
            batch: what `make_batch` gave, on the device.
            draws: B rows of what `draw` gave, on the device.
        """
        ...

    def validate(self, network: nn.Module, batch: Batch, draws: Batch) -> dict[str, Tensor]:
        """Return scalar means over the batch, `loss` among them; `draws` are rows of `validation_draw`'s."""
        ...

    def score(self, metrics: Mapping[str, float]) -> float | None:
        """Return what the best run has most of (Dice, or minus a distance or the loss); None without metrics."""
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
