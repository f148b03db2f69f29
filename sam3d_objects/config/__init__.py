"""Options of every command: frozen dataclasses that are checked when they are made, and presets in YAML."""

from .evaluate import MODEL_SYSTEMS, SLICE3D, SYSTEMS, VARIANT_SUFFIXES, EvaluateOptions
from .option import alternatives, check_options, option
from .prepare import PhantomOptions, PrepareOptions
from .preset import SECTIONS, load_preset, make_options, option_names, read_preset
from .reconstruct import ReconstructOptions
from .train import TrainOptions

__all__ = [
    "MODEL_SYSTEMS",
    "SECTIONS",
    "SLICE3D",
    "SYSTEMS",
    "VARIANT_SUFFIXES",
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
