"""Adapter folders from strangers: bounded, looked at before they are read, and refused with the reason."""

from sam3d_objects.adapter.untrusted.entries import check_entries, check_inside, read_bytes
from sam3d_objects.adapter.untrusted.json_text import parse_json, read_json_file
from sam3d_objects.adapter.untrusted.tensor_file import TensorEntry, read_tensor_file, tensor_entries

__all__ = [
    "TensorEntry",
    "check_entries",
    "check_inside",
    "parse_json",
    "read_bytes",
    "read_json_file",
    "read_tensor_file",
    "tensor_entries",
]
