"""Which samples make up each batch, and loading them ahead of time without changing anything."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import torch

from sam3d_objects.training.randomness import torch_generator

Item = TypeVar("Item")
Loaded = TypeVar("Loaded")


def epoch_batches(count: int, batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Return an epoch's batches: every index once, shuffled by (seed, epoch); the last may be short."""
    order = torch.randperm(count, generator=torch_generator(seed, "order", epoch)).tolist()
    return split_batches(order, batch_size)


def split_batches(order: Sequence[int], batch_size: int) -> list[list[int]]:
    """Cut a sequence of indices into batches; the last may be short."""
    return [list(order[start : start + batch_size]) for start in range(0, len(order), batch_size)]


@dataclass(frozen=True)
class Share:
    """What one process does of a batch.

    Attributes:
        indices: its samples.
        rows: which rows of the batch they are.
        weight: how many of them count: all, or none where a batch is too short for every process. A process without
            samples takes the first one: it must take part in the forward and backward pass, with weight 0.
        total: samples of the whole batch.
    """

    indices: list[int]
    rows: slice
    weight: int
    total: int


def share_of(batch: Sequence[int], rank: int, processes: int) -> Share:
    """Return the share of process `rank` in a batch: every n-th sample, so that shares differ by one at most."""
    rows = slice(rank, None, processes)
    own = list(batch[rows])
    if not own:
        return Share(list(batch[:1]), slice(0, 1), 0, len(batch))
    return Share(own, rows, len(own), len(batch))


def load_ahead(load: Callable[[Item], Loaded], items: Sequence[Item], workers: int, ahead: int = 2) -> Iterator[Loaded]:
    """Yield ``load(item)`` in order, with up to `workers` threads working `ahead` items per worker in
    advance.

    With 0 workers each item is loaded when it is asked for. The results are the same as long as `load`
    depends on its argument alone. Threads, not processes: the work (cutting, resizing) is in NumPy, SciPy and
    torch, which release the interpreter lock, and threads share the cases that are already in memory. An
    exception in `load` comes out at its item's turn; leaving the loop early cancels what has not begun.
    """
    if workers == 0:
        yield from map(load, items)
        return
    waiting: deque[Future[Loaded]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="samples")
    try:
        for item in items:
            waiting.append(pool.submit(load, item))
            if len(waiting) > workers * ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
