"""The ClientApp: it carries out the coordinator's orders at one site, and says why where it does not."""

from collections.abc import Callable
from pathlib import Path

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from sam3d_objects.adapter.exchange import AdapterParameters, decode, most_bytes
from sam3d_objects.federated.flower.messages import metrics_content, read_order, refusal, report_content
from sam3d_objects.federated.order import Order
from sam3d_objects.federated.site import Site

ADAPTER_FOLDER = "adapter"


def client_app(make_site: Callable[[Context], Site]) -> ClientApp:
    """Return the app that a SuperNode runs.

    `train` carries out a round; `evaluate` measures an adapter on the site's validation patients and leaves it in the
    site's folder as `adapter/`, ready for use.

    Args:
        make_site: makes the site of a context (its run and node configuration); called for every message, each of which
            may be in a process of its own.
    """
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        def work(site: Site, order: Order, given: AdapterParameters) -> RecordDict:
            return report_content(site.fit(order, given))

        return Message(_answer(make_site, context, message, work), reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        def work(site: Site, _order: Order, given: AdapterParameters) -> RecordDict:
            metrics = site.evaluate(given)
            site.save(given, Path(site.folder) / ADAPTER_FOLDER, metrics)
            return metrics_content(metrics)

        return Message(_answer(make_site, context, message, work), reply_to=message)

    return app


def _answer(
    make_site: Callable[[Context], Site],
    context: Context,
    message: Message,
    work: Callable[[Site, Order, AdapterParameters], RecordDict],
) -> RecordDict:
    """Do what a message asks for; what can be told becomes a refusal with its reason, all else is Flower's error."""
    try:
        order, data = read_order(message.content)
        site = make_site(context)
        given = decode(data, most_bytes(site.parameters().manifest))
        return work(site, order, given)
    except (ValueError, FloatingPointError) as error:
        print(f"refused: {error}")
        return refusal(str(error))
