"""What a process is given for each batch: its samples, and its rows of what was drawn for all of them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from sam3d_objects.training.batches import Share, load_ahead, share_of
from sam3d_objects.training.processes import Processes
from sam3d_objects.training.stage import Batch, Stage

Draw = Callable[[int, torch.Generator], Batch]


@dataclass(frozen=True)
class Portion:
    """A process's part of one batch: which it is, the names of its samples, and tensors on the device."""

    share: Share
    names: list[str]
    batch: Batch
    draws: Batch


class Feed:
    """Loads samples ahead of time, in threads.

    Args:
        stage: makes batches of them.
        processes: each gets a part of every batch.
        workers: threads; what comes out does not depend on them.
    """

    def __init__(self, stage: Stage, processes: Processes, workers: int) -> None:
        self.stage, self.processes, self.workers = stage, processes, workers

    def portions(
        self, source: Any, batches: Sequence[Sequence[int]], draw: Draw, generators: Sequence[torch.Generator]
    ) -> Iterator[Portion]:
        """Yield this process's portion of each batch.

        Args:
            source: samples by index.
            batches: indices of the samples of all processes.
            draw: the stage's `draw` or `validation_draw`; it draws for the whole batch, so that a sample gets what it
                would get in one process.
            generators: one for each batch.
        """
        loaded = load_ahead(lambda indices: self._load(source, indices), batches, self.workers)
        for (share, names, batch), generator in zip(loaded, generators, strict=True):
            rows = {name: drawn[share.rows] for name, drawn in draw(share.total, generator).items()}
            to_device = self.processes.fabric.to_device
            yield Portion(share, names, to_device(batch), to_device(rows))

    def _load(self, source: Any, indices: Sequence[int]) -> tuple[Share, list[str], Batch]:
        share = share_of(indices, self.processes.rank, self.processes.count)
        samples = [source[index] for index in share.indices]
        return share, self.stage.sample_names(samples), self.stage.make_batch(samples)
