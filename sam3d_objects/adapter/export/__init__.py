"""Merged models for other software: the release's files, torch programs, and ONNX of the dense networks."""

from sam3d_objects.adapter.export.dense import DENSE, DenseNetwork, dense_network
from sam3d_objects.adapter.export.graphs import TOLERANCE, export_onnx, export_program, traced
from sam3d_objects.adapter.export.release import MERGED, export_release

__all__ = [
    "DENSE",
    "MERGED",
    "TOLERANCE",
    "DenseNetwork",
    "dense_network",
    "export_onnx",
    "export_program",
    "export_release",
    "traced",
]
