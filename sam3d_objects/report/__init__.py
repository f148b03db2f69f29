"""Report: an evaluation's rows as one HTML file and a Markdown file; without torch."""

from sam3d_objects.report.page import ReportFiles, html_report, write_report
from sam3d_objects.report.results import Results, read_results
from sam3d_objects.report.text import markdown_report
from sam3d_objects.report.verdict import Claim, best_baseline, claims

__all__ = [
    "Claim",
    "ReportFiles",
    "Results",
    "best_baseline",
    "claims",
    "html_report",
    "markdown_report",
    "read_results",
    "write_report",
]
