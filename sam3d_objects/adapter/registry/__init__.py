"""Adapters as a collection: found, told, compared, added up, and carried to and from other places."""

from sam3d_objects.adapter.registry.combine import Part, sum_adapters
from sam3d_objects.adapter.registry.difference import Difference, compare_adapters
from sam3d_objects.adapter.registry.folder import Entry, find_adapters, pull_folder, push_folder
from sam3d_objects.adapter.registry.hub import Hub, HubPlace, find_on_hub, hub_client, pull_from_hub, push_to_hub
from sam3d_objects.adapter.registry.text import difference_text, info_text, registry_table, size_text

__all__ = [
    "Difference",
    "Entry",
    "Hub",
    "HubPlace",
    "Part",
    "compare_adapters",
    "difference_text",
    "find_adapters",
    "find_on_hub",
    "hub_client",
    "info_text",
    "pull_folder",
    "pull_from_hub",
    "push_folder",
    "push_to_hub",
    "registry_table",
    "size_text",
    "sum_adapters",
]
