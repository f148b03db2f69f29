"""The loop's small parts, worked by hand."""

import io
import random
import signal
import threading
import time
from itertools import chain, pairwise

import numpy as np
import pytest
import torch
from rich.console import Console

from sam3d_objects.training.batches import epoch_batches, load_ahead, split_batches
from sam3d_objects.training.ema import WeightAverage
from sam3d_objects.training.flow_times import even_times, stratified_times
from sam3d_objects.training.interrupt import StopRequest
from sam3d_objects.training.progress import TrainingProgress, readable_time
from sam3d_objects.training.randomness import (
    derive_seed,
    global_random_state,
    preserved_random_state,
    set_global_random_state,
    torch_generator,
)
from sam3d_objects.training.schedule import lr_factor


def test_an_epoch_has_every_sample_once_in_an_order_of_its_own() -> None:
    first, again, other = epoch_batches(10, 4, 0, 0), epoch_batches(10, 4, 0, 0), epoch_batches(10, 4, 0, 1)
    assert first == again != other
    for batches in (first, other):
        assert sorted(chain.from_iterable(batches)) == list(range(10))
    assert [len(batch) for batch in first] == [4, 4, 2]
    assert split_batches(range(3), 5) == [[0, 1, 2]] and split_batches([], 5) == []


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_loading_ahead_keeps_the_order_and_the_bound(workers: int) -> None:
    started: list[int] = []

    def load(item: int) -> int:
        started.append(item)
        time.sleep(0.001 * (item % 3))
        return item * item

    taken = []
    for value in load_ahead(load, range(20), workers, ahead=2):
        taken.append(value)
        assert len(started) <= len(taken) + 2 * workers + 1
    assert taken == [i * i for i in range(20)]


@pytest.mark.parametrize("workers", [0, 2])
def test_loading_ahead_raises_at_the_bad_item(workers: int) -> None:
    def load(item: int) -> int:
        if item == 3:
            raise ValueError("item 3 is bad")
        return item

    taken = []
    with pytest.raises(ValueError, match="item 3"):
        for value in load_ahead(load, range(9), workers):
            taken.append(value)
    assert taken == [0, 1, 2]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("samples")]


def test_the_learning_rate_climbs_then_falls_along_a_cosine() -> None:
    factors = [lr_factor(step, 3, 13, floor=0.2) for step in range(14)]
    assert factors[:4] == [0.25, 0.5, 0.75, 1.0]
    assert factors[8] == pytest.approx(0.6)  # half way between 1 and the floor
    assert factors[13] == pytest.approx(0.2)
    assert all(a > b for a, b in pairwise(factors[3:]))
    assert lr_factor(99, 3, 13) == 0.0
    assert lr_factor(0, 0, 1) == 1.0


def test_seeds_differ_by_purpose_and_counter() -> None:
    seeds = {derive_seed(0, "a"), derive_seed(0, "b"), derive_seed(1, "a"), derive_seed(0, "a", 1)}
    assert len(seeds) == 4 and all(0 <= seed < 2**63 for seed in seeds)
    one, two = (torch.rand(3, generator=torch_generator(5, "x", 2)) for _ in range(2))
    assert torch.equal(one, two)


def test_global_generators_are_restored() -> None:
    np.random.normal()  # leaves a cached second value, part of the state
    random.gauss(0, 1)
    state = global_random_state()
    first = (torch.rand(2).tolist(), np.random.normal(size=2).tolist(), random.gauss(0, 1))
    set_global_random_state(*state)
    with preserved_random_state():
        torch.rand(7)
        np.random.rand(7)
        random.random()
    assert first == (torch.rand(2).tolist(), np.random.normal(size=2).tolist(), random.gauss(0, 1))


def test_the_average_by_hand() -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    average = WeightAverage({"w": parameter}, decay=0.15)
    parameter.data.fill_(1.0)
    average.update()  # decay (1 + 0) / (10 + 0) = 0.1, smaller than 0.15
    assert average.average["w"].item() == pytest.approx(0.9)
    average.update()  # (1 + 1) / (10 + 1) = 0.18, so 0.15
    assert average.average["w"].item() == pytest.approx(0.985)
    with average.applied():
        assert parameter.item() == pytest.approx(0.985)
    assert parameter.item() == 1.0


def test_a_first_signal_asks_and_a_second_interrupts() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGTERM)
        assert stop.asked
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is before


def test_progress_tells_the_time_left() -> None:
    assert [readable_time(s) for s in (45, 720, 12_000)] == ["45 s", "12 min", "3 h 20 min"]
    text = io.StringIO()
    with TrainingProgress(Console(file=text, width=200), total=10, done=2) as progress:
        for _ in range(5):
            progress.advance(0, 0.5)
        assert 0 <= progress.seconds_left < 5
    assert "batch 7 of 10: epoch 1, loss 0.5000, 0 s left at most" in text.getvalue()


def test_a_terminal_gets_a_bar() -> None:
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=120)
    with TrainingProgress(console, total=4, done=0) as progress:
        progress.advance(0, 0.25)
        progress.say("a line [with brackets]")
    assert "a line [with brackets]" in text.getvalue() and "1/4" in text.getvalue()


def test_times_are_logit_normal_and_cover_every_interval() -> None:
    times = stratified_times(1000, -1.0, 1.5, torch.Generator().manual_seed(0))
    logits = torch.logit(times.double())
    assert logits.mean().item() == pytest.approx(-1.0, abs=0.01)
    assert logits.std().item() == pytest.approx(1.5, abs=0.02)
    assert times.dtype == torch.float32 and times.min() > 0 and times.max() < 1
    ranks = (torch.special.ndtr((logits + 1) / 1.5) * 1000).floor().int()
    assert sorted(ranks.tolist()) == list(range(1000)) != ranks.tolist()
    assert even_times(1, -1.0, 1.0).item() == pytest.approx(1 / (1 + np.e))  # the median
    assert torch.all(even_times(4, 0.0, 1.0).diff() > 0)
