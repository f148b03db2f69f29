"""Protocols of others: published ways to score, run on the same cases and systems, with their ceilings beside them."""

from sam3d_objects.evaluation.protocols.middle_slices import eight_bit, middle_cases, middle_index
from sam3d_objects.evaluation.protocols.point_metrics import POINT_METRICS, point_scores, surface_cloud
from sam3d_objects.evaluation.protocols.point_summary import point_markdown_of, point_summary_of
from sam3d_objects.evaluation.protocols.slice3d_2602 import PROTOCOL, run_protocol

__all__ = [
    "POINT_METRICS",
    "PROTOCOL",
    "eight_bit",
    "middle_cases",
    "middle_index",
    "point_markdown_of",
    "point_scores",
    "point_summary_of",
    "run_protocol",
    "surface_cloud",
]
