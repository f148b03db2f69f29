"""A site's rounds: they begin with what was sent, differ from each other, and go on where they were killed."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sam3d_objects.adapter.exchange import FEDAVG, FROZEN_A, SVD, AdapterParameters, get_parameters
from sam3d_objects.federated import Order
from sam3d_objects.training import Batch
from sam3d_objects.training.checkpoint import load_run_state
from tests.federated.toy_sites import AdaptedToyStage, toy_site


def same(one: AdapterParameters, other: AdapterParameters) -> bool:
    """Whether all arrays are equal to the last bit."""
    return all(np.array_equal(a, b) for a, b in zip(one.arrays, other.arrays, strict=True))


def test_sites_begin_alike_and_a_round_moves_them(tmp_path: Path) -> None:
    one, other = toy_site(tmp_path, 0), toy_site(tmp_path, 1)
    start = one.parameters()
    assert same(start, other.parameters())
    assert (start.samples, other.parameters().samples) == (24, 32)
    report = one.fit(Order(0, 3, 2), start)
    assert not same(report.parameters, start)
    assert report.metrics["steps"] == 2 * 6  # 24 samples in batches of four, two epochs
    assert report.organs == ("liver",)


def test_a_round_is_a_function_of_its_order_and_the_values_sent(tmp_path: Path) -> None:
    first, second = toy_site(tmp_path / "a"), toy_site(tmp_path / "b")
    start = first.parameters()
    moved = first.fit(Order(0, 3, 1), start).parameters
    expected = first.fit(Order(1, 3, 1), moved).parameters
    # Another site object, as after a restart, which never saw the first round.
    assert same(second.fit(Order(1, 3, 1), moved).parameters, expected)
    # Rounds have samples, noises and a learning rate of their own.
    assert not same(first.fit(Order(2, 3, 1), moved).parameters, expected)


def test_a_finished_round_is_answered_without_training(tmp_path: Path) -> None:
    site = toy_site(tmp_path)
    start = site.parameters()
    done = site.fit(Order(0, 2, 1), start).parameters
    stage = AdaptedToyStage(24)
    stage.bad_index = 0  # whoever trained on it would fail
    again = toy_site(tmp_path, stage=stage).fit(Order(0, 2, 1), start)
    assert same(again.parameters, done)


class Killed(Exception):
    """Stands for a power cut."""


class DyingStage(AdaptedToyStage):
    """It dies in the middle of its second epoch."""

    def make_batch(self, samples: Sequence[Any]) -> Batch:
        self.made = getattr(self, "made", 0) + 1
        if self.made == 9:
            raise Killed
        return super().make_batch(samples)


def test_a_killed_round_goes_on_and_ends_as_one_that_was_not(tmp_path: Path) -> None:
    order = Order(0, 2, 2)
    whole = toy_site(tmp_path / "whole")
    start = whole.parameters()
    expected = whole.fit(order, start).parameters
    with pytest.raises(Killed):
        toy_site(tmp_path, stage=DyingStage(24)).fit(order, start)
    resumed = toy_site(tmp_path)
    report = resumed.fit(order, start)
    assert same(report.parameters, expected)
    # The folder of one round is kept, those of others are not.
    resumed.fit(Order(1, 2, 2), report.parameters)
    assert [path.name[:10] for path in sorted((tmp_path / "site_0").glob("round_*"))] == ["round_0001"]


def adam_steps(folder: Path, number: int) -> set[float]:
    """How many steps the optimiser of a round has behind it, at the round's end."""
    (state,) = (folder / "site_0").glob(f"round_{number:04d}_*/state.safetensors")
    moments = load_run_state(state).tensors["optimizer"]
    return {float(value) for name, value in moments.items() if name.endswith("|step")}


@pytest.mark.parametrize(("rule", "steps"), [(FEDAVG, 12), (FROZEN_A, 12), (SVD, 6)])
def test_moments_stay_at_the_site_where_the_average_keeps_their_basis(tmp_path: Path, rule: str, steps: int) -> None:
    moved = toy_site(tmp_path, rule=rule).fit(Order(0, 3, 1), toy_site(tmp_path, rule=rule).parameters()).parameters
    # Another site object, as after a restart: the moments are read from the folder.
    toy_site(tmp_path, rule=rule).fit(Order(1, 3, 1), moved)
    assert adam_steps(tmp_path, 1) == {steps}


def test_a_killed_round_begins_with_the_moments_of_the_one_before(tmp_path: Path) -> None:
    whole = toy_site(tmp_path / "whole", rule=FEDAVG)
    start = whole.parameters()
    moved = whole.fit(Order(0, 2, 2), start).parameters
    expected = whole.fit(Order(1, 2, 2), moved).parameters
    toy_site(tmp_path, rule=FEDAVG).fit(Order(0, 2, 2), start)
    for dies_at in (3, 9):  # before the round's first checkpoint, and after it
        stage = DyingStage(24)
        stage.made = 9 - dies_at
        with pytest.raises(Killed):
            toy_site(tmp_path, rule=FEDAVG, stage=stage).fit(Order(1, 2, 2), moved)
    assert same(toy_site(tmp_path, rule=FEDAVG).fit(Order(1, 2, 2), moved).parameters, expected)


def test_moments_of_another_adapter_are_refused(tmp_path: Path) -> None:
    other = toy_site(tmp_path, rule=FEDAVG, rank=3)
    other.fit(Order(0, 2, 1), other.parameters())
    site = toy_site(tmp_path, rule=FEDAVG)
    with pytest.raises(ValueError, match=r"round_0000.* has no moments for this run: .*move it away"):
        site.fit(Order(1, 2, 1), site.parameters())


def test_the_learning_rate_falls_over_all_rounds(tmp_path: Path) -> None:
    site = toy_site(tmp_path)
    options = [site._options_of(Order(number, 4, 1)) for number in range(4)]
    for one, following in itertools.pairwise(options):
        assert one.lr * one.lr_floor == pytest.approx(following.lr)
    assert options[0].lr == pytest.approx(0.05)
    assert options[-1].lr * options[-1].lr_floor == pytest.approx(0.05 * site.options.lr_floor)
    assert len({one.seed for one in options}) == 4


def test_no_two_sites_draw_the_same_times_noises_and_slices(tmp_path: Path) -> None:
    """Drawn alike they would be the same in all sites, and an average over sites would not lessen their noise."""
    sites = [toy_site(tmp_path, number) for number in range(3)]
    assert len({site._options_of(Order(0, 2, 1)).seed for site in sites}) == 3
    assert len({site._first_epoch for site in sites}) == 3
    assert toy_site(tmp_path / "again", 1)._options_of(Order(0, 2, 1)).seed == sites[1]._options_of(Order(0, 2, 1)).seed


def test_with_a_frozen_only_b_moves_and_is_sent(tmp_path: Path) -> None:
    site = toy_site(tmp_path, rule=FROZEN_A)
    start = site.parameters()
    assert [key.name for key in start.manifest.keys] == ["0.lora_B"]
    before = site.stage.stage.module[0].lora_A.detach().clone()  # type: ignore[index]  # a Sequential
    report = site.fit(Order(0, 1, 2), start)
    assert not same(report.parameters, start)
    assert bool((site.stage.stage.module[0].lora_A == before).all())  # type: ignore[index]  # a Sequential


def test_adapters_of_another_base_or_rank_are_refused(tmp_path: Path) -> None:
    site = toy_site(tmp_path)
    before = site.parameters()
    other = toy_site(tmp_path / "rank", rank=3)
    with pytest.raises(ValueError, match="0 has rank 3, expected rank 2"):
        site.fit(Order(0, 1, 1), other.parameters())
    with pytest.raises(ValueError, match="another base model"):
        site.evaluate(get_parameters(site.stage.stage.module, "another"))
    assert same(site.parameters(), before)
    assert not list((tmp_path / "site_0").glob("round_*"))


def test_evaluation_measures_what_was_sent_and_leaves_no_run(tmp_path: Path) -> None:
    site = toy_site(tmp_path)
    start = site.parameters()
    loss = site.evaluate(start)["loss"]
    trained = site.fit(Order(0, 1, 5), start).parameters
    metrics = site.evaluate(trained)
    assert metrics["loss"] < loss
    assert metrics["samples"] == 3
    assert site.evaluate(start)["loss"] == loss
    assert (tmp_path / "site_0" / "evaluation.json").is_file()


@pytest.mark.parametrize("values", [(-1, 2, 1), (2, 2, 1), (0, 2, 0), (0, 0, 1), (0, 2, True), (0, 10**9, 1)])
def test_orders_out_of_range_are_refused(values: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="round"):
        Order(*values)
