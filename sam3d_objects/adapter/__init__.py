"""The adapter folder on disk."""

from sam3d_objects.adapter.atomic import atomic_folder, recover_folder
from sam3d_objects.adapter.card import RESEARCH_USE, adapter_card, licence_notice
from sam3d_objects.adapter.folder import adapter_file_bytes, load_adapter, save_adapter
from sam3d_objects.adapter.meta import AdapterMeta, InferenceContract
from sam3d_objects.adapter.record import AdapterRecord, read_adapter

__all__ = [
    "RESEARCH_USE",
    "AdapterMeta",
    "AdapterRecord",
    "InferenceContract",
    "adapter_card",
    "adapter_file_bytes",
    "atomic_folder",
    "licence_notice",
    "load_adapter",
    "read_adapter",
    "recover_folder",
    "save_adapter",
]
