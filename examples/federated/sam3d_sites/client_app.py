"""What a SuperNode runs: one site, on data that stays there."""

from flwr.app import Context

from sam3d_objects.cli.flower import site_of
from sam3d_objects.federated import Site
from sam3d_objects.federated.flower import client_app


def make_site(context: Context) -> Site:
    """Make the site of this node."""
    return site_of(context.run_config, context.node_config)


app = client_app(make_site)
