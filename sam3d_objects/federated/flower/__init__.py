"""The Flower app: a ClientApp around a site, a ServerApp around the coordinator. It needs the extra `federated`."""

from sam3d_objects.federated.flower.client import client_app
from sam3d_objects.federated.flower.server import Patience, server_app

__all__ = ["Patience", "client_app", "server_app"]
