"""What a SuperLink runs: the coordinator, which sees adapters and no scan."""

from flwr.app import Context

from sam3d_objects.cli.flower import coordinator_of, patience_of, save_adapter_of
from sam3d_objects.federated import Coordinator
from sam3d_objects.federated.flower import Patience, server_app


def make(context: Context) -> tuple[Coordinator, Patience]:
    """Make the coordinator of this run."""
    return coordinator_of(context.run_config), patience_of(context.run_config)


def finish(context: Context, coordinator: Coordinator, metrics: dict[str, dict[str, float]]) -> None:
    """Keep the adapter."""
    print(f"the adapter: {save_adapter_of(context.run_config, coordinator, metrics)}")


app = server_app(make, finish)
