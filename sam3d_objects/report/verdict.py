"""Verdict: what the figures say, in sentences that a reader needs no statistics for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sam3d_objects.report.results import Results
from sam3d_objects.report.systems import kind, phrase

_WORDS = {
    "better": "is better than",
    "worse": "is worse than",
    "open": "cannot be told apart from",
    "unknown": "differs in mean Dice (one patient: no interval can be given) from",
}


@dataclass(frozen=True)
class Claim:
    """One comparison of the reference with another system.

    Args:
        against: the other system.
        outcome: `better`, `worse`, `open` (the interval holds 0) or `unknown` (there is no interval).
        sentence: the same in words, with figures.
        pair: the paired difference in Dice, the reference minus the other, as summary.json has it.
    """

    against: str
    outcome: str
    sentence: str
    pair: Mapping[str, Any]


def best_baseline(results: Results) -> str | None:
    """The baseline with the best mean Dice; None when there is none. Ceilings know the truth and are none."""
    scores = {
        name: system["dice"]["mean"]
        for name, system in results.summary["systems"].items()
        if kind(name) == "baseline" and name != results.reference
    }
    return max(scores, key=lambda name: scores[name]) if scores else None


def interval(score: Mapping[str, Any], digits: int = 3, key: str = "mean", sign: str = "") -> str:
    """A mean with its 95 % interval, or the mean alone where there is none; `sign` "+" shows that of all figures."""
    text = f"{score[key]:{sign}.{digits}f}"
    if score["ci_low"] is None:
        return text
    return f"{text} ({score['ci_low']:{sign}.{digits}f} to {score['ci_high']:{sign}.{digits}f})"


def outcome(pair: Mapping[str, Any], higher_is_better: bool = True) -> str:
    """What a paired difference says of its first system: `better`, `worse`, `open` or `unknown`."""
    if pair["ci_low"] is None:
        return "unknown"
    if pair["ci_low"] <= 0 <= pair["ci_high"]:
        return "open"
    return "better" if (pair["ci_low"] > 0) == higher_is_better else "worse"


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
    found = outcome(pair)
    systems = results.summary["systems"]
    difference = interval(pair, key="mean_difference", sign="+")
    name = phrase(results.reference)
    return Claim(
        other,
        found,
        f"{name[0].upper()}{name[1:]} {_WORDS[found]} {phrase(other)}: mean Dice "
        f"{systems[results.reference]['dice']['mean']:.3f} against {systems[other]['dice']['mean']:.3f}, difference "
        f"{difference} on the same {pair['n']} slices of {pair['patients']} patients.",
        pair,
    )


def task_sentence(results: Results) -> str:
    """What was asked of the reference, and on whom it was judged; nothing that the summary does not say."""
    summary = results.summary
    unseen = summary.get("unseen", False)  # summaries of earlier versions do not say
    whom = f"{summary['patients']} {'test ' if unseen else ''}patient{'s' if summary['patients'] > 1 else ''}"
    organs = list(summary["organs"])
    unseen_words = " who were kept out of training" if unseen else ""
    named = f"structure{'s' if len(organs) > 1 else ''} in the data: {', '.join(organs)}"
    return (
        f"From one slice with the organ marked, {phrase(results.reference)} draws the whole organ in 3D. Judged on "
        f"{summary['cases']} slice{'s' if summary['cases'] > 1 else ''} of {whom}"
        f"{unseen_words} ({named}); intervals in brackets are 95 %, over patients."
    )


def headline(results: Results) -> str:
    """The whole verdict in one sentence."""
    name = phrase(results.reference)
    found = claims(results)
    if not found:
        return f"{name[0].upper()}{name[1:]} alone was judged: there is nothing to compare it with."
    parts = [f"{_short(claim.outcome)} {_rival(claim.against)}" for claim in found]
    same_side = len({claim.outcome for claim in found}) == 1
    return f"{name[0].upper()}{name[1:]} {(' and ' if same_side else ', but ').join(parts)}."


def _short(outcome: str) -> str:
    return "cannot be ranked (one patient) against" if outcome == "unknown" else _WORDS[outcome]


def _rival(system: str) -> str:
    return phrase(system) if kind(system) != "baseline" else f"the best alternative ({phrase(system)})"


def failure_sentence(results: Results) -> str:
    """How many cases failed, of which system."""
    failures = {name: system["failures"] for name, system in results.summary["systems"].items() if system["failures"]}
    if not failures:
        return "Every case gave a mesh that can be scored, good or bad."
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
    if len(planes) == 1:
        return f"All slices are {worst}."
    if planes[worst] == planes[best]:
        return f"Mean Dice is {planes[best]:.3f} in every plane."
    return (
        f"Easiest from {best} slices (mean Dice {planes[best]:.3f}), hardest from {worst} ones ({planes[worst]:.3f})."
    )
