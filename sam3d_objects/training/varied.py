"""A stage with other samples, or with more to remember: what a run was told that the stage itself does not know."""

from collections.abc import Mapping, Sequence
from typing import Any

from sam3d_objects.training.stage import Samples, Stage


class FixedSamples(Sequence[Any]):
    """The same samples in every epoch, for training and for validation alike.

    Args:
        samples: a sequence; it is asked for a sample each time, and should give the same one.
        repeats: how often each of them comes in an epoch.
    """

    def __init__(self, samples: Sequence[Any], repeats: int = 1) -> None:
        self.samples, self.repeats = samples, repeats

    def __len__(self) -> int:
        return len(self.samples) * self.repeats

    def __getitem__(self, index: int) -> Any:  # type: ignore[override]  # no slices of samples
        """Return sample `index`."""
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        return self.samples[index % len(self.samples)]

    def set_epoch(self, epoch: int) -> None:
        """Nothing changes from epoch to epoch."""


class VariedStage:
    """A stage as it is, but for its samples and its record.

    Args:
        stage: does everything else.
        record: what the run's record holds beside the stage's; a run with another one is not resumed.
        fixed: train and validate on these samples; None leaves the stage's own.
        repeats: how often each of them comes in an epoch of training.
    """

    def __init__(
        self, stage: Stage, record: Mapping[str, Any], fixed: Sequence[Any] | None = None, repeats: int = 1
    ) -> None:
        self.inner, self.added = stage, dict(record)
        self.name, self.module = stage.name, stage.module
        self.train_samples: Samples = stage.train_samples if fixed is None else FixedSamples(fixed, repeats)
        self.validation_samples: Sequence[Any] = stage.validation_samples if fixed is None else FixedSamples(fixed)
        self.set_trainable, self.prepare, self.save = stage.set_trainable, stage.prepare, stage.save
        self.make_batch, self.sample_names = stage.make_batch, stage.sample_names
        self.draw, self.validation_draw = stage.draw, stage.validation_draw
        self.loss, self.validate, self.score = stage.loss, stage.validate, stage.score
        self.counts = stage.counts

    def record(self) -> dict[str, Any]:
        """Return the stage's record with what was added."""
        return {**self.inner.record(), **self.added}
