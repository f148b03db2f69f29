"""Cached condition tokens: the samples of a few epochs, cut and embedded once, kept on disk, and used again and again.

A stage that wants it needs three things:

- in `__init__`: ``self.train_samples = ConditionCache(train, epochs, folder, cache_key(...))``
- in `prepare`, when targets are there: ``self.train_samples.fill(self.finished_rows, say)``, a function from samples
  to one `CachedRow` each, with the condition tokens and the targets
- in `make_batch` and `sample_names`: a sample may be a `CachedRow`, whose tensors and name are ready
"""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from sam3d_objects.training.progress import readable_time
from sam3d_objects.training.stage import Samples, Say
from sam3d_objects.training.targets.folder import is_kept, keep, read_kept

TOKENS_FOLDER = "tokens"
_BATCH = 16
_SECONDS_BETWEEN_LINES = 15.0


@dataclass(frozen=True, eq=False)
class CachedRow:
    """One sample, finished: its name for people, and CPU tensors by name."""

    name: str
    tensors: dict[str, Tensor]


def cache_key(**parts: Any) -> str:
    """Return the SHA-256 of all that rows depend on, as JSON: fingerprints, sampling options, seed."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class ConditionCache:
    """Samples of the first epochs as finished rows; later epochs have the rows of epoch e modulo `epochs`.

    The slices are those of the first epochs without a cache, so a run of at most `epochs` epochs sees the same; a
    longer one sees fewer different slices than it would without.

    Args:
        source: the samples; a function of (seed, epoch, index).
        epochs: E, how many different epochs there are, at least 1.
        folder: where rows are kept, in a folder named by the key: a file for each epoch and index.
        maker_key: `cache_key` of all that rows depend on beside epoch and index.

    Raises:
        ValueError: no epoch.
    """

    def __init__(self, source: Samples, epochs: int, folder: Path, maker_key: str) -> None:
        if epochs < 1:
            raise ValueError(f"cached epochs must be at least 1, got {epochs}")
        self.source, self.epochs, self.folder, self.epoch = source, epochs, folder / maker_key, 0

    def __len__(self) -> int:
        return len(self.source)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, modulo E."""
        self.epoch = epoch % self.epochs

    def __getitem__(self, index: int) -> CachedRow:
        """Return a finished row.

        Raises:
            ValueError: its file is missing (`fill` was not called) or damaged.
        """
        path = self._path(self.epoch, index)
        kept = read_kept(path)
        if kept is None:
            raise ValueError(f"the cached row {path} is missing or damaged: start again, which makes such rows anew")
        tensors, texts = kept
        return CachedRow(texts["name"], tensors)

    def fill(self, make_rows: Callable[[Sequence[Any]], list[CachedRow]], say: Say) -> None:
        """Make the rows that are not there yet or damaged, some at a time, and say how far it is.

        Args:
            make_rows: turns samples into a row each, alike whatever is beside them.
            say: called with lines for people.
        """
        wanted = [(epoch, index) for epoch in range(self.epochs) for index in range(len(self.source))]
        # By their headers: all rows of a full-size model are tens of GB, and this is asked at every start.
        missing = [place for place in wanted if not is_kept(self._path(*place))]
        say(f"condition tokens: {len(wanted) - len(missing)} of {len(wanted)} rows are there, in {self.folder}")
        began = said = time.monotonic()
        done = 0
        for start in range(0, len(missing), _BATCH):
            places = missing[start : start + _BATCH]
            for place, row in zip(places, make_rows([self._sample(*place) for place in places]), strict=True):
                keep(self._path(*place), row.tensors, {"name": row.name})
            if not done:
                row_bytes = sum(self._path(*place).stat().st_size for place in places) / len(places)
                say(f"condition tokens: about {row_bytes * len(wanted) / 1e9:.2g} GB when all are made")
            done += len(places)
            if time.monotonic() - said > _SECONDS_BETWEEN_LINES:
                said = time.monotonic()
                left = readable_time((said - began) / done * (len(missing) - done))
                say(f"condition tokens: {done} of {len(missing)} made, {left} left")

    def _sample(self, epoch: int, index: int) -> Any:
        self.source.set_epoch(epoch)
        return self.source[index]

    def _path(self, epoch: int, index: int) -> Path:
        return self.folder / f"{epoch:04d}" / f"{index:06d}.safetensors"
