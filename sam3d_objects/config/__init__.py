"""Options of every command: frozen dataclasses that are checked when they are made, and presets in YAML."""

from .option import alternatives, check_options, option
from .prepare import PhantomOptions, PrepareOptions
from .preset import SECTIONS, load_preset, make_options, option_names, read_preset
from .reconstruct import MODEL_SYSTEMS, SYSTEMS, EvaluateOptions, ReconstructOptions
from .train import TrainOptions

__all__ = [
    "MODEL_SYSTEMS",
    "SECTIONS",
    "SYSTEMS",
    "EvaluateOptions",
    "PhantomOptions",
    "PrepareOptions",
    "ReconstructOptions",
    "TrainOptions",
    "alternatives",
    "check_options",
    "load_preset",
    "make_options",
    "option",
    "option_names",
    "read_preset",
]
