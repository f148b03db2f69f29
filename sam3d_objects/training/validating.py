"""Judging what a run would save: the stage's losses on fixed noise, and what a validator finds."""

import torch
from lightning_fabric import Fabric

from sam3d_objects.training.batches import split_batches
from sam3d_objects.training.feed import Feed
from sam3d_objects.training.learner import Learner
from sam3d_objects.training.options import LoopOptions
from sam3d_objects.training.processes import Processes
from sam3d_objects.training.randomness import torch_generator
from sam3d_objects.training.sharding import sharded
from sam3d_objects.training.stage import Stage
from sam3d_objects.training.state import Counters
from sam3d_objects.training.validated import Validated, Validator


class Validation:
    """Validates a stage as often as it is asked to; noises and times are the same each time.

    Args:
        stage, learner, feed, options: of the run.
        validator: what else judges; None for the losses alone.
    """

    def __init__(
        self, stage: Stage, learner: Learner, feed: Feed, options: LoopOptions, validator: Validator | None
    ) -> None:
        self.stage, self.learner, self.feed, self.options, self.validator = stage, learner, feed, options, validator

    @property
    def _processes(self) -> Processes:
        return self.feed.processes

    @property
    def _fabric(self) -> Fabric:
        return self.learner.fabric

    def run(self) -> Validated:
        """Return the metrics of the weights that would be saved, alike in all processes, and pictures."""
        self.learner.network.eval()
        with self.learner.saved_weights(), torch.no_grad():
            metrics, found = self._losses(), self._validated()
        return Validated({**metrics, **{name: float(value) for name, value in found.metrics.items()}}, found.pictures)

    def _losses(self) -> dict[str, float]:
        samples, seed, sums = self.stage.validation_samples, self.options.seed, Counters()
        batches = split_batches(range(len(samples)), self.options.batch_size * self._processes.count)
        generators = [torch_generator(seed, "validation", index) for index in range(len(batches))]
        for portion in self.feed.portions(samples, batches, self.stage.validation_draw, generators):
            with self._fabric.autocast():
                parts = self.stage.validate(self.learner.network, portion.batch, portion.draws)
            values = {name: float(part) for name, part in parts.items()}
            sums.add(self._processes.means(values, portion.share.weight), portion.share.total)
        return sums.means() if sums.samples else {}

    def _validated(self) -> Validated:
        if self.validator is None:
            return Validated({})
        if not sharded(self.learner.module):
            return self._processes.from_first(self.validator)
        found = self.validator()  # nobody has all the weights, so all processes work through it together
        return self._processes.from_first(lambda: found)
