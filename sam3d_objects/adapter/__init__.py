"""The adapter folder on disk."""

from sam3d_objects.adapter.adapter_set import AdapterSet, add_to_set, read_adapter_set
from sam3d_objects.adapter.atomic import atomic_folder, recover_folder
from sam3d_objects.adapter.card import RESEARCH_USE, adapter_card, licence_notice
from sam3d_objects.adapter.folder import adapter_file_bytes, load_adapter, save_adapter
from sam3d_objects.adapter.meta import AdapterMeta, InferenceContract
from sam3d_objects.adapter.record import AdapterRecord, read_adapter

__all__ = [
    "RESEARCH_USE",
    "AdapterMeta",
    "AdapterRecord",
    "AdapterSet",
    "InferenceContract",
    "adapter_card",
    "adapter_file_bytes",
    "add_to_set",
    "atomic_folder",
    "licence_notice",
    "load_adapter",
    "read_adapter",
    "read_adapter_set",
    "recover_folder",
    "save_adapter",
]
