"""The ServerApp: it asks the sites round after round, and goes on without those that fail."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from flwr.app import Context, Message, MessageType, RecordDict
from flwr.serverapp import Grid, ServerApp

from sam3d_objects.federated.coordinator import Coordinator, TooFewSitesError
from sam3d_objects.federated.flower.messages import order_content, read_metrics, read_report
from sam3d_objects.federated.order import Order, SiteReport

_POLL_S = 1.0


@dataclass(frozen=True)
class Patience:
    """For how long the coordinator waits.

    Attributes:
        sites: how many it waits for before a round begins.
        join_s: seconds for them to come, or to come back; then fewer do, if they are enough.
        round_s: seconds for a round; a site that has not answered by then is left out of it.

    Raises:
        ValueError: a number out of range.
    """

    sites: int
    join_s: float = 600.0
    round_s: float = 24 * 3600.0

    def __post_init__(self) -> None:
        if self.sites < 1 or not self.join_s >= 0 or not self.round_s > 0:
            raise ValueError(f"sites must be at least 1, join_s 0 or more, round_s above 0; got {self}")


def server_app(
    make: Callable[[Context], tuple[Coordinator, Patience]],
    finish: Callable[[Context, Coordinator, dict[str, dict[str, float]]], None],
) -> ServerApp:
    """Return the app that a SuperLink runs.

    Args:
        make: makes the coordinator of a context; one whose folder holds a run goes on with it.
        finish: called after the last round with every site's metrics of the last adapter.
    """
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        coordinator, patience = make(context)
        while not coordinator.finished:
            run_round(grid, coordinator, patience)
        finish(context, coordinator, ask_metrics(grid, coordinator, patience))

    return app


def run_round(grid: Grid, coordinator: Coordinator, patience: Patience) -> None:
    """Ask all sites that are there for a round, and finish it with those that answered.

    Raises:
        TooFewSitesError: fewer came or answered than the plan needs.
    """
    order, limit = coordinator.order(), coordinator.most_bytes
    nodes = wait_for_sites(grid, patience, coordinator.plan.min_sites)
    reports: dict[str, SiteReport] = {}
    failed: dict[str, str] = {}
    for name, reply in _ask(grid, nodes, MessageType.TRAIN, order, coordinator.message(), patience.round_s).items():
        try:
            reports[name] = read_report(_content(reply), limit)
        except ValueError as error:
            failed[name] = str(error)
    coordinator.finish_round(reports, failed)


def ask_metrics(grid: Grid, coordinator: Coordinator, patience: Patience) -> dict[str, dict[str, float]]:
    """Return what each site measures of the last adapter; those that fail or are gone are said and left out."""
    last = Order(coordinator.plan.rounds - 1, coordinator.plan.rounds, coordinator.plan.epochs)
    nodes = wait_for_sites(grid, replace(patience, join_s=0.0), needed=0)
    found: dict[str, dict[str, float]] = {}
    if not nodes:  # the rounds are done: the adapter must not be lost for want of a figure
        coordinator.say("no site is connected any more: nobody measured the last adapter")
        return found
    for name, reply in _ask(grid, nodes, MessageType.EVALUATE, last, coordinator.message(), patience.round_s).items():
        try:
            found[name] = read_metrics(_content(reply))
            coordinator.say(f"{name}: {', '.join(f'{key} {value:.4g}' for key, value in found[name].items())}")
        except ValueError as error:
            coordinator.say(f"{name}: not evaluated: {error}")
    return found


def wait_for_sites(grid: Grid, patience: Patience, needed: int) -> list[int]:
    """Return the nodes that are connected, as soon as all are that are waited for.

    Raises:
        TooFewSitesError: fewer than `needed` are there when the time is up.
    """
    ends = time.monotonic() + patience.join_s
    while len(nodes := sorted(grid.get_node_ids())) < patience.sites and time.monotonic() < ends:
        time.sleep(_POLL_S)
    if len(nodes) < needed:
        raise TooFewSitesError(f"{len(nodes)} sites are connected after {patience.join_s:g} s, {needed} are needed")
    return nodes


def _ask(
    grid: Grid, nodes: list[int], kind: str, order: Order, adapter: bytes, seconds: float
) -> dict[str, Message | None]:
    """Return the reply of each node by its name; None where there is none in time."""
    messages = [
        Message(order_content(order, adapter), node, kind, ttl=seconds, group_id=str(order.round + 1)) for node in nodes
    ]
    replies = list(grid.send_and_receive(messages, timeout=seconds))
    # By the message that they answer: of a node that is gone the SuperLink says so, in its own name.
    answers = {reply.metadata.reply_to_message_id: reply for reply in replies}
    return {f"node {m.metadata.dst_node_id}": answers.get(m.metadata.message_id) for m in messages}


def _content(reply: Message | None) -> RecordDict:
    """Return a reply's content; ValueError where it is an error or did not come."""
    if reply is None:
        raise ValueError("no answer in time")
    if reply.has_error():
        raise ValueError(f"it failed: {reply.error.reason or 'no reason given'} (code {reply.error.code})")
    return reply.content
