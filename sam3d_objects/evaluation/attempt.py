"""Attempt: one system tries one case; whatever goes wrong becomes a reason, not an end of the evaluation."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from sam3d_objects.evaluation.rows import one_line
from sam3d_objects.mesh import Mesh


@dataclass(frozen=True, eq=False)
class Attempt:
    """What came of it.

    Args:
        mesh: what was predicted, scored or not; None where nothing that is a mesh came.
        scores: metric -> finite number; None where the attempt failed.
        reason: exception type and message on one line; empty where it did not fail.
        trace: the traceback of a failure; empty otherwise.
        seconds: the prediction alone, or up to its failure.
    """

    mesh: Mesh | None
    scores: Mapping[str, float] | None
    reason: str
    trace: str
    seconds: float


def attempt(predict: Callable[[], Mesh], score: Callable[[Mesh], Mapping[str, float]]) -> Attempt:
    """Predict and score; exceptions, and scores that are not finite, are failures."""
    mesh: Mesh | None = None
    seconds = None
    started = time.perf_counter()
    try:
        predicted = predict()
        seconds = time.perf_counter() - started
        mesh = predicted if isinstance(predicted, Mesh) else None
        scores = score(predicted)
        if not np.isfinite(list(scores.values())).all():
            raise ValueError(f"a metric is not finite: {dict(scores)}")
    except Exception as error:  # the boundary around one case: a failed case must be a row
        reason = one_line(f"{type(error).__name__}: {error}")
        elapsed = time.perf_counter() - started if seconds is None else seconds
        return Attempt(mesh, None, reason, traceback.format_exc(), elapsed)
    return Attempt(mesh, scores, "", "", seconds)
