"""What goes through Flower: an adapter as safetensors bytes, and records of plain numbers and texts. Never a pickle."""

import json

from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from sam3d_objects.adapter.exchange import decode, encode
from sam3d_objects.federated.order import Order, SiteReport, read_contract

ADAPTER, ORDER, ABOUT, METRICS, REFUSED = "adapter", "order", "about", "metrics", "refused"
_KIND = "safetensors"
_MOST_TEXT = 64 << 10
_MALFORMED = (KeyError, TypeError, AttributeError, RecursionError)


def order_content(order: Order, adapter: bytes) -> RecordDict:
    """Return what a site is sent: a round, and the values that it begins with."""
    numbers = ConfigRecord({"round": order.round, "rounds": order.rounds, "epochs": order.epochs})
    return RecordDict({ORDER: numbers, ADAPTER: _adapter_record(adapter)})


def read_order(content: RecordDict) -> tuple[Order, bytes]:
    """Read what `order_content` gave; the bytes are not looked at.

    Raises:
        ValueError: records are missing, or numbers out of range.
    """
    try:
        numbers = content[ORDER]
        return Order(numbers["round"], numbers["rounds"], numbers["epochs"]), _adapter_bytes(content)
    except _MALFORMED as error:
        raise ValueError(f"this is no order: {type(error).__name__}: {error}") from error


def report_content(report: SiteReport) -> RecordDict:
    """Return what a site answers."""
    return RecordDict(
        {
            ADAPTER: _adapter_record(encode(report.parameters)),
            ABOUT: ConfigRecord({"json": json.dumps(report.about())}),
            METRICS: MetricRecord(dict(report.metrics)),
        }
    )


def read_report(content: RecordDict, limit: int) -> SiteReport:
    """Read what `report_content` gave.

    Args:
        content: of a reply.
        limit: an adapter of more bytes is refused unread.

    Raises:
        ValueError: the site refused the order (its reason), or its answer is malformed or too large.
    """
    if REFUSED in content:
        raise ValueError(f"the site refused: {_text(content, REFUSED, 'reason')}")
    try:
        about = json.loads(_text(content, ABOUT, "json"))
        contract, organs = read_contract(about["contract"]), tuple(str(organ) for organ in about["organs"])
        metrics = {str(name): float(value) for name, value in content[METRICS].items()}
        return SiteReport(decode(_adapter_bytes(content), limit), contract, organs, metrics)
    except _MALFORMED as error:
        raise ValueError(f"this is no answer of a site: {type(error).__name__}: {error}") from error


def metrics_content(metrics: dict[str, float]) -> RecordDict:
    """Return what a site answers to an evaluation."""
    return RecordDict({METRICS: MetricRecord(dict(metrics))})


def read_metrics(content: RecordDict) -> dict[str, float]:
    """Read what `metrics_content` gave; ValueError where the site refused, or there are no metrics."""
    if REFUSED in content:
        raise ValueError(f"the site refused: {_text(content, REFUSED, 'reason')}")
    if METRICS not in content:
        raise ValueError("an answer without metrics")
    return {str(name): float(value) for name, value in content[METRICS].items()}


def refusal(reason: str) -> RecordDict:
    """Return what a site answers to an order that it does not carry out."""
    return RecordDict({REFUSED: ConfigRecord({"reason": reason[:_MOST_TEXT]})})


def _adapter_record(data: bytes) -> ArrayRecord:
    # One array of bytes: Flower sends large ones in pieces.
    return ArrayRecord({ADAPTER: Array("uint8", (len(data),), _KIND, data)})


def _adapter_bytes(content: RecordDict) -> bytes:
    array = content[ADAPTER][ADAPTER]
    if array.stype != _KIND:
        raise ValueError(f"an adapter comes as {_KIND}, not as {array.stype!r}")
    return array.data


def _text(content: RecordDict, record: str, key: str) -> str:
    value = content[record][key]
    if not isinstance(value, str) or len(value) > _MOST_TEXT:
        raise ValueError(f"{record}.{key} must be a text of at most {_MOST_TEXT} characters")
    return value
