"""A stage for one round: it begins with the values that were sent, and draws samples that no other round draws."""

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sam3d_objects.adapter.exchange import AdapterParameters, encode, freeze_a, set_parameters
from sam3d_objects.training import Batch, Samples, Stage
from sam3d_objects.training.stage import Say


class LaterEpochs:
    """Samples whose epochs are counted on from earlier rounds'.

    Args:
        samples: of the stage.
        first: the site's own first epoch, and those of all earlier rounds.
    """

    def __init__(self, samples: Samples, first: int) -> None:
        self.samples, self.first = samples, first

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Any:
        """Return one sample of the current epoch."""
        return self.samples[index]

    def set_epoch(self, epoch: int) -> None:
        """Choose an epoch of the round."""
        self.samples.set_epoch(self.first + epoch)


class SiteStage:
    """A site's stage, whose module is adapted and whose targets are made once for all rounds.

    Args:
        stage: what is trained at the site.
        base_fingerprint: of its base before adapters go in.
        frozen_a: only B and what is unfrozen beside the adapters trains.
    """

    def __init__(self, stage: Stage, base_fingerprint: str, frozen_a: bool) -> None:
        self.stage, self.base_fingerprint, self.frozen_a = stage, base_fingerprint, frozen_a
        self._summary: str | None = None
        self._prepared = False

    def adapt(self) -> str:
        """Inject adapters, once, and return the summary for people; the global generators are seeded by the caller."""
        if self._summary is None:
            self._summary = self.stage.set_trainable()
            if self.frozen_a:
                freeze_a(self.stage.module)
        return self._summary

    def prepare(self, device: torch.device, say: Say) -> None:
        """Make or read the targets, once."""
        if not self._prepared:
            self.stage.prepare(device, say)
            self._prepared = True

    def set(self, parameters: AdapterParameters) -> None:
        """Put values into the adapter; ValueError where they don't fit."""
        set_parameters(self.stage.module, parameters, self.base_fingerprint)


class RoundStage:
    """What the training loop is given for one round.

    Args:
        site: the adapted stage.
        given: the values that the round begins with.
        first_epoch: where the round's epochs begin.
        validated: whether the stage's own validation samples are looked at; training of a round leaves them out.
    """

    def __init__(self, site: SiteStage, given: AdapterParameters, first_epoch: int, validated: bool = False) -> None:
        inner = site.stage
        self.site, self.given, self.first_epoch = site, given, first_epoch
        self.name, self.module = inner.name, inner.module
        self.train_samples: Samples = LaterEpochs(inner.train_samples, first_epoch)
        self.validation_samples: Sequence[Any] = inner.validation_samples if validated else ()
        self.prepare = site.prepare
        self.make_batch, self.sample_names = inner.make_batch, inner.sample_names
        self.draw, self.validation_draw, self.validate = inner.draw, inner.validation_draw, inner.validate
        self.score, self.save, self.counts = inner.score, inner.save, inner.counts

    def set_trainable(self) -> str:
        """Adapt the module where that is still to be done, and begin with the given values."""
        summary = self.site.adapt()
        self.site.set(self.given)
        return summary

    def loss(self, network: nn.Module, batch: Batch, draws: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the inner stage's loss."""
        return self.site.stage.loss(network, batch, draws)

    def record(self) -> dict[str, Any]:
        """Return the stage's record, with what the round began with: a killed round is resumed with nothing else."""
        return {**self.site.stage.record(), "round": {"given": digest(self.given), "first_epoch": self.first_epoch}}


def digest(parameters: AdapterParameters) -> str:
    """Return the SHA-256 of an adapter's values and manifest, as hex digits."""
    return hashlib.sha256(encode(parameters)).hexdigest()
