"""All sites in one process, one after another: to compare with pooled training, and to try things out."""

from collections.abc import Callable, Mapping

from sam3d_objects.adapter.exchange import decode, encode
from sam3d_objects.federated.coordinator import Coordinator
from sam3d_objects.federated.site import Site


def run_locally(coordinator: Coordinator, sites: Mapping[str, Callable[[], Site]]) -> None:
    """Run all rounds that are left.

    What passes between the two sides goes through the same bytes as between machines. A site that refuses or fails is
    left out of the round.

    Args:
        coordinator: of the run.
        sites: name -> makes the site, or returns the one that there is.

    Raises:
        TooFewSitesError: a round has too few answers.
    """
    while not coordinator.finished:
        reports, failed = {}, {}
        order, data, limit = coordinator.order(), coordinator.message(), coordinator.most_bytes
        for name, make in sites.items():
            try:
                report = make().fit(order, decode(data, limit))
                decode(encode(report.parameters), limit)
                reports[name] = report
            except (ValueError, ArithmeticError, OSError) as error:
                failed[name] = f"{type(error).__name__}: {error}"
        coordinator.finish_round(reports, failed)
