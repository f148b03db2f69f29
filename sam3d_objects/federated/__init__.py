"""Several hospitals train one adapter, and none gives a scan away: sites, a coordinator, and a Flower app of both."""

from sam3d_objects.federated.coordinator import Coordinator, Plan, TooFewSitesError
from sam3d_objects.federated.local import run_locally
from sam3d_objects.federated.order import Order, SiteReport, check_contract, read_contract
from sam3d_objects.federated.site import RoundInterruptedError, Site

__all__ = [
    "Coordinator",
    "Order",
    "Plan",
    "RoundInterruptedError",
    "Site",
    "SiteReport",
    "TooFewSitesError",
    "check_contract",
    "read_contract",
    "run_locally",
]
