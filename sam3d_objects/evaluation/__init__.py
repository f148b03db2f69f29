"""Evaluation: any callable slice -> mesh, judged in patient millimetres on patients that nothing was fitted to."""

from sam3d_objects.evaluation.baselines import BASELINES, Baseline, fit_baselines
from sam3d_objects.evaluation.cases import Case, Material, organ_truth, prepared_baselines, prepared_cases
from sam3d_objects.evaluation.compare import compare, compare_masks
from sam3d_objects.evaluation.evaluator import evaluate
from sam3d_objects.evaluation.jobs import Progress, System
from sam3d_objects.evaluation.metrics import METRICS, Comparison, Metric, Overlap, SurfaceDistances
from sam3d_objects.evaluation.predictor import Predictor
from sam3d_objects.evaluation.rows import COLUMNS, Row, read_rows, write_rows
from sam3d_objects.evaluation.statistics import (
    PairedDifference,
    Summary,
    bootstrap_interval,
    paired_difference,
    summarise,
)
from sam3d_objects.evaluation.summary import SummaryOptions, summary_of, write_summary
from sam3d_objects.evaluation.summary_tables import markdown_of
from sam3d_objects.evaluation.truth import Truth

__all__ = [
    "BASELINES",
    "COLUMNS",
    "METRICS",
    "Baseline",
    "Case",
    "Comparison",
    "Material",
    "Metric",
    "Overlap",
    "PairedDifference",
    "Predictor",
    "Progress",
    "Row",
    "Summary",
    "SummaryOptions",
    "SurfaceDistances",
    "System",
    "Truth",
    "bootstrap_interval",
    "compare",
    "compare_masks",
    "evaluate",
    "fit_baselines",
    "markdown_of",
    "organ_truth",
    "paired_difference",
    "prepared_baselines",
    "prepared_cases",
    "read_rows",
    "summarise",
    "summary_of",
    "write_rows",
    "write_summary",
]
