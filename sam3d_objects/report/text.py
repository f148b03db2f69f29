"""Text: report.md, for a paper's appendix."""

from collections.abc import Iterable, Sequence

from sam3d_objects.report.results import Results
from sam3d_objects.report.systems import description, kind
from sam3d_objects.report.verdict import claims, failure_sentence, hardest_sentence, headline, interval, task_sentence


def markdown_report(results: Results, title: str) -> str:
    """Verdict, all figures with quartiles, Dice by group, paired differences, and every failed case with its reason."""
    summary = results.summary
    lines = [f"# {title}", "", "Research use only, not for diagnosis.", ""]
    if summary["synthetic"]:
        lines += ["**The scans are SYNTHETIC phantoms.**", ""]
    lines += [task_sentence(results), ""]
    lines += ["## Verdict", "", f"**{headline(results)}**", "", *(f"- {claim.sentence}" for claim in claims(results))]
    lines += [f"- {failure_sentence(results)}", f"- {hardest_sentence(results)}", ""]
    lines += ["## Method", "", _method(results), "", *(f"- {note}" for note in summary["notes"]), ""]
    lines += [f"- {_marked(name)}: {description(name)}" for name in results.systems if description(name)]
    lines += ["", "## All cases", "", *_pooled(results)]
    for key, name in (("organs", "organ"), ("planes", "plane"), ("slice_kinds", "kind of slice")):
        lines += [f"## Mean Dice by {name}", "", *_grouped(results, key)]
    lines += [f"## {results.reference} minus the others, on the same cases", "", *_paired(results)]
    failed = [row for row in results.rows if row.failed]
    if failed:
        lines += ["## Failed cases", "", *(f"- {row.system}: {row.title}: {row.reason}" for row in failed), ""]
    return "\n".join(lines)


def markdown_table(heading: Sequence[str], body: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table and an empty one."""
    return [f"| {' | '.join(heading)} |", "|" + "---|" * len(heading), *(f"| {' | '.join(row)} |" for row in body), ""]


def _method(results: Results) -> str:
    shape_only = any(facts.get("shape_only") for facts in results.summary["metrics"].values())
    return (
        f"{results.summary['patients']} test patients, {results.summary['cases']} slices. Patient millimetres, nothing "
        "aligned to the truth"
        + (" but for the metrics that say shape-only" if shape_only else "")
        + ". 95 % bootstrap "
        "intervals over patients. A failed case scores overlap 0, volume error 100 % and the diagonal of the scan."
    )


def _marked(system: str) -> str:
    return f"{system} (ceiling)" if kind(system) == "ceiling" else system


def _pooled(results: Results) -> list[str]:
    summary = results.summary
    body = []
    for name, scores in summary["systems"].items():
        for metric, facts in summary["metrics"].items():
            low, high = summary["quartiles"][name][metric]
            figures = [interval(scores[metric]), f"{scores[metric]['median']:.3f}", f"{low:.3f} to {high:.3f}"]
            body.append([_marked(name), str(scores["n"]), str(scores["failures"]), facts["title"], *figures])
    heading = ["system", "n", "failed", "metric", "mean (95 % interval)", "median", "quartiles"]
    return markdown_table(heading, body)


def _grouped(results: Results, key: str) -> list[str]:
    groups = results.summary[key]
    body = [
        [_marked(name), *(interval(scores[name]["dice"]) if name in scores else "" for scores in groups.values())]
        for name in results.systems
    ]
    return markdown_table(["system", *groups], body)


def _paired(results: Results) -> list[str]:
    metrics = results.summary["metrics"]
    body = [
        [
            _marked(pair["second"]),
            metrics[pair["metric"]]["title"],
            interval(pair, key="mean_difference", sign="+"),
            str(pair["n"]),
            str(pair["patients"]),
        ]
        for pair in results.summary["paired"]
    ]
    return markdown_table(["other", "metric", "mean difference (95 % interval)", "n", "patients"], body)
