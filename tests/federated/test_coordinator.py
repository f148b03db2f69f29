"""The coordinator's rounds: who counts, who is left out, and where a killed run goes on."""

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from sam3d_objects.adapter.exchange import FEDAVG, FROZEN_A, SVD, AdapterParameters, average, decode
from sam3d_objects.federated import (
    Coordinator,
    Order,
    Plan,
    Site,
    SiteReport,
    TooFewSitesError,
    read_contract,
    run_locally,
)
from tests.federated.toy_sites import CONTRACT, toy_site

PLAN = Plan(rounds=3, epochs=1, rule=SVD, min_sites=2)


def sites_in(folder: Path, count: int = 3, rule: str = SVD) -> dict[str, Callable[[], Site]]:
    """Makers of sites, each made anew when it is asked for, as a node's processes are."""
    return {f"site {number}": partial(toy_site, folder, number, rule) for number in range(count)}


def coordinator_in(folder: Path, plan: Plan = PLAN, said: list[str] | None = None) -> Coordinator:
    """A coordinator that begins as the sites do."""
    initial = toy_site(folder / "first", rule=plan.rule).parameters()
    return Coordinator(initial, plan, folder / "coordinator", (said if said is not None else []).append)


def report(parameters: AdapterParameters, samples: int = 4, **changes: object) -> SiteReport:
    """An answer."""
    contract = dataclasses.replace(CONTRACT, **changes)  # type: ignore[arg-type]  # fields of the contract
    return SiteReport(dataclasses.replace(parameters, samples=samples), contract, ("liver",))


@pytest.mark.parametrize("rule", [SVD, FEDAVG, FROZEN_A])
def test_sites_together_learn_what_none_was_told(tmp_path: Path, rule: str) -> None:
    plan = dataclasses.replace(PLAN, epochs=3, rule=rule)
    coordinator, sites = coordinator_in(tmp_path, plan), sites_in(tmp_path, 2, rule)
    judge = toy_site(tmp_path / "judge", rule=rule)
    before = judge.evaluate(coordinator.parameters)["loss"]
    run_locally(coordinator, sites)
    assert coordinator.finished
    assert judge.evaluate(coordinator.parameters)["loss"] < 0.95 * before
    rows = coordinator.history
    assert [row["round"] for row in rows] == [1, 2, 3]
    assert coordinator.parameters.samples == 24 + 32
    assert all(site["bytes_up"] <= coordinator.most_bytes for row in rows for site in row["sites"].values())
    if rule == FROZEN_A:
        assert all(row["off_percent"] < 1e-3 for row in rows)


def test_a_round_is_the_average_of_its_answers(tmp_path: Path) -> None:
    coordinator = coordinator_in(tmp_path)
    order, given = coordinator.order(), coordinator.parameters
    reports = {name: make().fit(order, given) for name, make in sites_in(tmp_path).items()}
    coordinator.finish_round(reports, {})
    expected = average([one.parameters for one in reports.values()], SVD).parameters
    for ours, theirs in zip(coordinator.parameters.arrays, expected.arrays, strict=True):
        assert np.array_equal(ours, theirs)


def test_a_site_that_dies_or_refuses_is_left_out_and_the_round_goes_on(tmp_path: Path) -> None:
    said: list[str] = []
    coordinator = coordinator_in(tmp_path, dataclasses.replace(PLAN, rounds=1), said)

    def dead() -> Site:
        raise ConnectionError("the line is cut")

    sites = sites_in(tmp_path, 2) | {"dead": dead, "other rank": partial(toy_site, tmp_path, 9, rank=3)}
    run_locally(coordinator, sites)
    left_out = coordinator.history[0]["left_out"]
    assert left_out["dead"] == "ConnectionError: the line is cut"
    assert "rank 2, expected rank 3" in left_out["other rank"]
    assert any("other rank is left out: ValueError: another adapter than expected" in line for line in said)


def test_answers_that_do_not_fit_are_left_out_with_their_reasons(tmp_path: Path) -> None:
    coordinator = coordinator_in(tmp_path)
    good = coordinator.parameters
    foreign = dataclasses.replace(good, manifest=dataclasses.replace(good.manifest, base_fingerprint="other"))
    answers = {
        "a: another window": report(good, modality="ct"),
        "b: good": report(good),
        "c: good": report(good),
        "d: another base": report(foreign),
        "e: no samples": report(good, samples=0),
    }
    coordinator.finish_round(answers, {"f": "no answer in time"})
    row = coordinator.history[0]
    assert list(row["sites"]) == ["b: good", "c: good"]
    assert "modality is 'ct', the other sites have 'mr'" in row["left_out"]["a: another window"]
    assert "another base model" in row["left_out"]["d: another base"]
    assert "no training samples" in row["left_out"]["e: no samples"]
    assert row["left_out"]["f"] == "no answer in time"


def test_too_few_answers_stop_the_run_with_all_reasons_and_the_round_can_be_tried_again(tmp_path: Path) -> None:
    coordinator = coordinator_in(tmp_path)
    with pytest.raises(TooFewSitesError, match=r"round 1: 1 good answers, 2 are needed \(b: gone\)"):
        coordinator.finish_round({"a": report(coordinator.parameters)}, {"b": "gone"})
    assert coordinator.round == 0
    coordinator.finish_round({name: report(coordinator.parameters) for name in "ab"}, {})
    assert coordinator.round == 1


def test_a_killed_run_goes_on_after_its_last_whole_round(tmp_path: Path) -> None:
    whole = coordinator_in(tmp_path / "whole")
    run_locally(whole, sites_in(tmp_path / "whole", 2))

    first = coordinator_in(tmp_path)
    order, given = first.order(), first.parameters
    first.finish_round({name: make().fit(order, given) for name, make in sites_in(tmp_path, 2).items()}, {})
    said: list[str] = []
    second = coordinator_in(tmp_path, said=said)
    assert (second.round, second.organs, second.contract) == (1, ("liver",), CONTRACT)
    assert "going on after round 1 of 3" in said[0]
    run_locally(second, sites_in(tmp_path, 2))
    assert len(second.history) == 3
    for ours, theirs in zip(second.parameters.arrays, whole.parameters.arrays, strict=True):
        assert np.array_equal(ours, theirs)
    files = sorted(path.name for path in (tmp_path / "coordinator").iterdir())
    assert files == ["history.json", "round_0003.safetensors", "state.json"]


def test_a_folder_of_another_run_is_refused(tmp_path: Path) -> None:
    coordinator = coordinator_in(tmp_path)
    while not coordinator.finished:
        coordinator.finish_round({name: report(coordinator.parameters) for name in "ab"}, {})
    with pytest.raises(ValueError, match=r"begun with .*'rounds': 3.*choose another folder"):
        coordinator_in(tmp_path, dataclasses.replace(PLAN, rounds=4))
    file = tmp_path / "coordinator" / "round_0003.safetensors"
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(ValueError, match=r"no run that can go on here.*no adapter"):
        coordinator_in(tmp_path)


def test_what_is_sent_is_what_there_is(tmp_path: Path) -> None:
    coordinator = coordinator_in(tmp_path)
    sent = decode(coordinator.message(), coordinator.most_bytes)
    for ours, theirs in zip(sent.arrays, coordinator.parameters.arrays, strict=True):
        assert np.array_equal(ours, theirs)
    assert coordinator.order() == Order(0, 3, 1)


def test_plans_contracts_and_metrics_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="rounds must be at least 1"):
        Plan(0)
    with pytest.raises(ValueError, match="averaged by fedavg, frozen_a, svd"):
        Plan(1, rule="median")
    assert read_contract(dataclasses.asdict(CONTRACT)) == CONTRACT
    with pytest.raises(ValueError, match="no inference contract"):
        read_contract({"modality": "mr"})
    with pytest.raises(ValueError, match="not finite: loss"):
        SiteReport(toy_site(tmp_path).parameters(), CONTRACT, (), {"loss": float("nan")})
