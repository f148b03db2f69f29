"""The Flower app, with Flower's own messages and no network: what passes, what is refused, who is left out."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("flwr", reason="Flower is not installed: pip install 'sam3d-medical[federated]'")

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, MessageType, RecordDict
from flwr.clientapp import ClientApp

from sam3d_objects.adapter.exchange import SVD, encode, most_bytes
from sam3d_objects.federated import Coordinator, Order, Plan, Site, SiteReport, TooFewSitesError, run_locally
from sam3d_objects.federated.flower import Patience, client_app
from sam3d_objects.federated.flower.messages import (
    order_content,
    read_order,
    read_report,
    refusal,
    report_content,
)
from sam3d_objects.federated.flower.server import ask_metrics, run_round
from tests.federated.toy_sites import CONTRACT, toy_site

PATIENCE = Patience(sites=2, join_s=0.0, round_s=60.0)


def context_of(node: int, **node_config: Any) -> Context:
    """A context as Flower makes it."""
    return Context(run_id=1, node_id=node, node_config=node_config, state=RecordDict(), run_config={})


class LocalGrid:
    """Carries messages to apps in this process; a node that is dead answers nothing, or an error."""

    def __init__(self, apps: dict[int, ClientApp], silent: Iterable[int] = (), broken: Iterable[int] = ()) -> None:
        self.apps, self.silent, self.broken = apps, set(silent), set(broken)

    def get_node_ids(self) -> list[int]:
        return list(self.apps)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        assert timeout is not None
        replies = []
        for message in reversed(list(messages)):  # they come back in any order
            node = message.metadata.dst_node_id
            message.metadata.__dict__["_message_id"] = f"message to {node}"  # as a real grid does when it sends
            if node in self.broken:
                replies.append(Message(Error(8, "ClientApp crashed"), reply_to=message))
            elif node not in self.silent:
                replies.append(self.apps[node](message, context_of(node)))
        return replies


def app_of(folder: Path, number: int, **changes: Any) -> ClientApp:
    """A site's app, which makes the site anew for each message."""

    def make(_context: Context) -> Site:
        return toy_site(folder, number, **changes)

    return client_app(make)


def coordinator_in(folder: Path, rounds: int = 2) -> Coordinator:
    """A coordinator that begins as the sites do."""
    initial = toy_site(folder / "first").parameters()
    return Coordinator(initial, Plan(rounds, 1, SVD, 2), folder / "coordinator", lambda _line: None)


@pytest.fixture(autouse=True)
def inside_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages are made inside a run, which Flower tells its processes."""
    from flwr.supercore.task_identity import TaskIdentity

    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


def test_flower_comes_to_the_same_adapter_as_one_process(tmp_path: Path) -> None:
    ours, flowers = coordinator_in(tmp_path / "a"), coordinator_in(tmp_path / "b")
    run_locally(ours, {f"node {n}": partial(toy_site, tmp_path / "a", n) for n in (1, 2)})
    grid = LocalGrid({n: app_of(tmp_path / "b", n) for n in (1, 2)})
    while not flowers.finished:
        run_round(grid, flowers, PATIENCE)
    for one, other in zip(ours.parameters.arrays, flowers.parameters.arrays, strict=True):
        assert np.array_equal(one, other)
    metrics = ask_metrics(grid, flowers, PATIENCE)
    assert set(metrics) == {"node 1", "node 2"} and metrics["node 1"]["samples"] == 3
    assert ask_metrics(LocalGrid({}), flowers, PATIENCE) == {}  # all are gone: nothing to say, and nothing lost
    assert (tmp_path / "b" / "site_1" / "adapter" / "adapter_model.safetensors").is_file()


def test_dead_silent_and_foreign_nodes_are_left_out(tmp_path: Path) -> None:
    coordinator = coordinator_in(tmp_path)
    apps = {n: app_of(tmp_path, n) for n in (1, 2, 3, 4)} | {5: app_of(tmp_path, 5, rank=3)}
    apps[6] = app_of(tmp_path, 6, base_fingerprint="another")
    run_round(LocalGrid(apps, silent=[3], broken=[4]), coordinator, PATIENCE)
    row = coordinator.history[0]
    assert list(row["sites"]) == ["node 1", "node 2"]
    assert row["left_out"]["node 3"] == "no answer in time"
    assert row["left_out"]["node 4"] == "it failed: ClientApp crashed (code 8)"
    assert "the site refused: another adapter than expected: 0 has rank 2, expected rank 3" in row["left_out"]["node 5"]
    assert "the site refused: another base model" in row["left_out"]["node 6"]


def test_too_few_nodes_end_the_run(tmp_path: Path) -> None:
    coordinator = coordinator_in(tmp_path)
    with pytest.raises(TooFewSitesError, match="1 sites are connected after 0 s, 2 are needed"):
        run_round(LocalGrid({1: app_of(tmp_path, 1)}), coordinator, PATIENCE)


def test_orders_and_reports_come_back(tmp_path: Path) -> None:
    parameters = toy_site(tmp_path).parameters()
    order, data = read_order(order_content(Order(1, 4, 2), b"bytes"))
    assert (order, data) == (Order(1, 4, 2), b"bytes")
    report = SiteReport(parameters, CONTRACT, ("liver", "spleen"), {"loss": 0.5})
    came = read_report(report_content(report), most_bytes(parameters.manifest))
    assert (came.contract, came.organs, came.metrics) == (CONTRACT, ("liver", "spleen"), {"loss": 0.5})
    assert encode(came.parameters) == encode(parameters)


def test_messages_that_are_malformed_or_too_large_are_refused(tmp_path: Path) -> None:
    parameters = toy_site(tmp_path).parameters()
    good = report_content(SiteReport(parameters, CONTRACT, ("liver",), {"loss": 0.5}))
    with pytest.raises(ValueError, match=r"a message of \d+ bytes; an adapter such as ours has at most 64"):
        read_report(good, 64)
    as_numpy = RecordDict({**good, "adapter": ArrayRecord({"adapter": Array(np.ones(3))})})
    with pytest.raises(ValueError, match=r"comes as safetensors, not as 'numpy\.ndarray'"):
        read_report(as_numpy, 1 << 20)
    for record in ({"json": "[" * 50_000}, {"json": "3"}, {"json": 4}, {"other": "x"}, {"json": "x" * 100_000}):
        with pytest.raises(ValueError):
            read_report(RecordDict({**good, "about": ConfigRecord(record)}), 1 << 20)
    with pytest.raises(ValueError, match="this is no order: KeyError"):
        read_order(RecordDict())
    with pytest.raises(ValueError, match="the site refused: no such organ"):
        read_report(refusal("no such organ"), 1 << 20)


def test_a_site_says_why_it_does_not_carry_an_order_out(tmp_path: Path) -> None:
    app = app_of(tmp_path, 1)
    message = Message(order_content(Order(0, 1, 1), b"no adapter"), 1, MessageType.TRAIN)
    reply = app(message, context_of(1))
    assert "these bytes are no adapter" in reply.content["refused"]["reason"]


def test_patience_is_checked() -> None:
    with pytest.raises(ValueError, match="round_s above 0"):
        Patience(2, 1.0, 0.0)
