"""What the Flower app is put together from: names are checked, and both sides begin with the same adapter."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sam3d_objects.adapter import InferenceContract, load_adapter, read_adapter
from sam3d_objects.adapter.exchange import FROZEN_A, RULES, check_same, get_parameters
from sam3d_objects.cli.flower import (
    coordinator_of,
    fresh_adapter,
    plan_of,
    save_adapter_of,
    site_folders,
    train_options,
)
from sam3d_objects.config import TrainOptions
from sam3d_objects.federated import Plan, SiteReport
from sam3d_objects.model import load_model

RUN: dict[str, Any] = {
    "rounds": 1,
    "epochs": 2,
    "rule": "svd",
    "sites": 2,
    "min-sites": 2,
    "join-s": 1.0,
    "round-s": 1.0,
    "train.lora_rank": 2,
    "train.organs": "",
}
CONTRACT = InferenceContract(field_of_view="mask_margin", modality="mr")


def test_options_come_from_both_tables() -> None:
    options = train_options(RUN | {"train.lora_targets": ["*.to_q"]}, {"device": "cpu", "data-root": "x"})
    assert (options.lora_rank, options.epochs, options.device, options.organs) == (2, 2, "cpu", "")
    assert options.lora_targets == ("*.to_q",)
    assert options.batch_size == 16  # the stage's own
    assert (plan_of(RUN).rounds, plan_of(RUN).rule) == (1, "svd")


@pytest.mark.parametrize(
    ("run", "node", "message"),
    [
        (
            {"train.lora_rnk": 2},
            {},
            "the train configuration has the unknown name 'lora_rnk'. Did you mean 'lora_rank'",
        ),
        ({"ruonds": 2}, {}, "the run configuration has the unknown name 'ruonds'. Did you mean 'rounds'"),
        ({}, {"data_root": "x"}, "the node configuration has the unknown name 'data_root'. Did you mean 'data-root'"),
        ({"train.stage": "all"}, {}, "LoRA of one stage"),
        ({"train.method": "full", "train.lora_rank": ""}, {}, "LoRA of one stage"),
        ({"train.lora_rank": 0}, {}, "lora_rank"),
        ({"epochs": ""}, {}, "lacks 'epochs'"),
    ],
)
def test_what_is_wrong_is_named(run: dict[str, Any], node: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train_options(RUN | run, node)


def test_a_site_has_its_own_folders_and_a_simulated_one_a_number() -> None:
    assert site_folders(RUN, {"data-root": "scans", "folder": "mine"}) == (Path("scans"), Path("mine"))
    simulated = RUN | {"data-root": "data/site_{number}", "site-folder": "runs/{number}"}
    assert site_folders(simulated, {"partition-id": 2, "num-partitions": 3}) == (Path("data/site_3"), Path("runs/3"))
    with pytest.raises(ValueError, match="lacks 'data-root'"):
        site_folders(RUN, {})


@pytest.mark.parametrize("rule", RULES)
def test_every_fresh_adapter_of_a_run_is_the_same(rule: str) -> None:
    _, _, one = fresh_adapter(RUN | {"rule": rule})
    _, _, other = fresh_adapter(RUN | {"rule": rule})
    check_same(one.manifest, other.manifest)
    assert all(np.array_equal(a, b) for a, b in zip(one.arrays, other.arrays, strict=True))
    assert bool(one.manifest.held) == (rule == FROZEN_A)
    assert one.manifest.rank == 2


def test_the_runs_adapter_is_a_folder_like_any_other(tmp_path: Path) -> None:
    run = RUN | {"folder": str(tmp_path / "run"), "min-sites": 1}
    coordinator = coordinator_of(run)
    moved = [array + np.float32(0.25) for array in coordinator.parameters.arrays]
    answer = type(coordinator.parameters)(coordinator.parameters.manifest, tuple(moved), 10)
    coordinator.finish_round({"a": SiteReport(answer, CONTRACT, ("liver",))}, {})
    metrics = {
        "a": {"samples": 1.0, "dice": 0.5, "odd": 1.0},
        "b": {"samples": 3.0, "dice": 0.9},
        "c": {"samples": 0.0},
    }
    folder = save_adapter_of(run, coordinator, metrics)
    meta = read_adapter(folder).meta
    assert meta.metrics == {"samples": 4.0, "dice": pytest.approx(0.8)}
    assert (meta.organs, meta.contract) == (("liver",), CONTRACT)
    model = load_model("tiny", stages=("structure",))
    load_adapter(folder, model.structure_flow, base_fingerprint=model.fingerprint)
    for ours, theirs in zip(
        get_parameters(model.structure_flow, model.fingerprint).arrays, coordinator.parameters.arrays, strict=True
    ):
        assert np.array_equal(ours, theirs)


def test_the_example_names_only_what_there_is() -> None:
    import tomllib

    settings = tomllib.loads(
        (Path(__file__).resolve().parents[2] / "examples/federated/pyproject.toml").read_text(encoding="utf-8")
    )
    config = settings["tool"]["flwr"]["app"]["config"]
    run = {name: value for name, value in config.items() if name != "train"}
    run |= {f"train.{name}": value for name, value in config["train"].items()}
    assert train_options(run, {"partition-id": 0}).lora_rank == 8
    assert plan_of(run) == Plan(rounds=60, epochs=1, rule="fedavg", min_sites=2)
    # Alone at its site, training would do the same.
    plain = TrainOptions().of_stage("structure")
    assert (config["train"]["lr"], config["train"]["batch_size"]) == (plain.lr, plain.batch_size)
