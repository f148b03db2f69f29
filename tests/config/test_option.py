"""Options check themselves when they are made."""

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sam3d_objects.cli.train import train
from sam3d_objects.config import (
    EvaluateOptions,
    PhantomOptions,
    PrepareOptions,
    ReconstructOptions,
    TrainOptions,
    check_options,
    option,
)
from sam3d_objects.config.train import STAGE_DEFAULTS


@dataclass(frozen=True)
class Every:
    """One option of every kind."""

    count: int = option(3, "a count", minimum=1, maximum=5)
    rate: float = option(0.5, "a rate", minimum=0.0)
    name: str = option("a", "a name", choices=("a", "b"))
    folder: Path | None = option(None, "a folder")
    window: tuple[float, float] = option((0.0, 1.0), "a window", maximum=10.0)
    words: tuple[str, ...] = option((), "words")
    fit: bool | None = option(None, "yes or no")

    def __post_init__(self) -> None:
        check_options(self)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"count": 1},
        {"count": 5},
        {"rate": 2},
        {"name": "b"},
        {"folder": Path("x")},
        {"window": (1, 10.0)},
        {"words": ("a", "b", "c")},
        {"fit": False},
    ],
)
def test_what_fits_is_accepted(values: dict[str, Any]) -> None:
    made = Every(**values)
    assert all(getattr(made, name) == value for name, value in values.items())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"count": 0}, "Every.count is at least 1; got 0"),
        ({"count": 6}, "Every.count is at most 5; got 6"),
        ({"count": 2.5}, "Every.count is a whole number; got 2.5"),
        ({"count": True}, "Every.count is a whole number; got True"),
        ({"count": None}, "Every.count is a whole number; got None"),
        ({"rate": "fast"}, "Every.rate is a number; got 'fast'"),
        ({"rate": float("nan")}, "Every.rate is a finite number; got nan"),
        ({"rate": float("inf")}, "Every.rate is a finite number; got inf"),
        ({"name": "c"}, "Every.name is one of a, b; got 'c'"),
        ({"folder": 3}, "Every.folder is a path or nothing; got 3"),
        ({"window": (1.0,)}, "Every.window is 2 times a number; got"),
        ({"window": (1.0, 11.0)}, "Every.window is at most 10.0; got 11.0"),
        ({"words": "abc"}, "Every.words is a list of a text; got 'abc'"),
        ({"words": ("a", 1)}, "Every.words is a list of a text; got"),
        ({"fit": 1}, "Every.fit is true or false or nothing; got 1"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        Every(**values)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("cls", "values", "message"),
    [
        (PrepareOptions, {"window_hu": (240.0, -160.0)}, "window_hu is a lower and a higher number"),
        (PrepareOptions, {"percentiles": (0.5, 101.0)}, "percentiles is at most 100"),
        (PrepareOptions, {"modality": "pet"}, "modality is one of auto, ct, mr, us"),
        (TrainOptions, {"lr": 0.0}, "learning rate of 0 trains nothing"),
        (TrainOptions, {"precision": "fp8"}, "precision is one of auto, 32, bf16, 16"),
        (ReconstructOptions, {"threshold": 1.0}, "threshold is at most 0.99"),
        (EvaluateOptions, {"systems": "base,adaptd"}, "adaptd"),
        (EvaluateOptions, {"systems": ""}, "systems knows base, adapted, merged"),
        (PhantomOptions, {"cases": 2}, "cases is at least 3"),
    ],
)
def test_the_stages_refuse_what_makes_no_sense(cls: type, values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cls(**values)


def test_systems_are_kept_in_order() -> None:
    assert EvaluateOptions(systems="adapted, base").system_names == ("adapted", "base")


def test_the_default_epochs_have_too_few_validations_to_stop_early_as_the_help_says() -> None:
    for stage in STAGE_DEFAULTS:
        options = TrainOptions().of_stage(stage)
        assert options.epochs is not None and options.validate_every is not None
        validations = math.ceil(options.epochs / options.validate_every)
        assert validations <= options.patience, "it can stop now: say so in the help, train's docstring and the pages"
    (field,) = [field for field in dataclasses.fields(TrainOptions) if field.name == "patience"]
    assert "best is kept" in field.metadata["help"] and "too few validations" in field.metadata["help"]
    assert "which have too few validations" in " ".join((train.__doc__ or "").split())
