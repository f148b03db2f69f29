"""Verdict: what the figures say, in sentences that a reader needs no statistics for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sam3d_objects.report.results import Results

MODELS = ("base", "adapted", "merged")
"""Systems that are the model itself; the others are what a user would try instead."""


@dataclass(frozen=True)
class Claim:
    """One comparison of the reference with another system.

    Args:
        against: the other system.
        outcome: `better`, `worse`, `open` (the interval holds 0) or `unknown` (there is no interval).
        sentence: the same in words, with figures.
    """

    against: str
    outcome: str
    sentence: str


def best_baseline(results: Results) -> str | None:
    """The baseline with the best mean Dice; None when there is none."""
    scores = {name: system["dice"]["mean"] for name, system in results.summary["systems"].items() if name not in MODELS}
    return max(scores, key=lambda name: scores[name]) if scores else None


def interval(score: Mapping[str, Any], digits: int = 3, key: str = "mean") -> str:
    """A mean with its 95 % interval, or the mean alone where there is none."""
    text = f"{score[key]:.{digits}f}"
    if score["ci_low"] is None:
        return text
    return f"{text} ({score['ci_low']:.{digits}f} to {score['ci_high']:.{digits}f})"


def claims(results: Results) -> list[Claim]:
    """The reference against the base model and against the best baseline, by Dice, on the same cases."""
    against = [name for name in ("base", best_baseline(results)) if name in results.systems]
    return [_claim(results, str(name)) for name in against if name != results.reference]


def _claim(results: Results, other: str) -> Claim:
    pair = next(
        pair
        for pair in results.summary["paired"]
        if pair["second"] == other and pair["first"] == results.reference and pair["metric"] == "dice"
    )
    if pair["ci_low"] is None:
        outcome, words = "unknown", "differs in mean Dice (one patient: no interval can be given) from"
    elif pair["ci_low"] > 0:
        outcome, words = "better", "is better than"
    elif pair["ci_high"] < 0:
        outcome, words = "worse", "is worse than"
    else:
        outcome, words = "open", "cannot be told apart from"
    systems = results.summary["systems"]
    difference = interval(pair, key="mean_difference")
    return Claim(
        other,
        outcome,
        f"{results.reference} {words} {other}: mean Dice {systems[results.reference]['dice']['mean']:.3f} against "
        f"{systems[other]['dice']['mean']:.3f}, difference {difference} on the same {pair['n']} slices of "
        f"{pair['patients']} patients.",
    )


def failure_sentence(results: Results) -> str:
    """How many cases failed, of which system."""
    failures = {name: system["failures"] for name, system in results.summary["systems"].items() if system["failures"]}
    if not failures:
        return "No case failed."
    listed = ", ".join(
        f"{count} of {results.summary['systems'][name]['n']} ({name})" for name, count in failures.items()
    )
    return f"Failed cases, counted as overlap 0 and the diagonal of the scan: {listed}."


def hardest_sentence(results: Results) -> str:
    """Which plane is hardest for the reference."""
    planes = {
        plane: scores[results.reference]["dice"]["mean"]
        for plane, scores in results.summary["planes"].items()
        if results.reference in scores
    }
    worst, best = min(planes, key=lambda plane: planes[plane]), max(planes, key=lambda plane: planes[plane])
    if worst == best:
        return f"All slices are {worst}."
    return (
        f"Easiest from {best} slices (mean Dice {planes[best]:.3f}), hardest from {worst} ones ({planes[worst]:.3f})."
    )
