"""Text: report.md, for a paper's appendix."""

from sam3d_objects.report.results import Results
from sam3d_objects.report.verdict import claims, failure_sentence, hardest_sentence, interval


def markdown_report(results: Results, title: str) -> str:
    """Verdict, the pooled table with quartiles, paired differences, and every failed case with its reason."""
    summary = results.summary
    lines = [f"# {title}", "", "Research use only, not for diagnosis.", ""]
    if summary["synthetic"]:
        lines += ["**The scans are SYNTHETIC phantoms.**", ""]
    lines += ["## Verdict", "", *(f"- {claim.sentence}" for claim in claims(results))]
    lines += [f"- {failure_sentence(results)}", f"- {hardest_sentence(results)}", "", "## All cases", ""]
    lines += [
        "| system | n | failed | metric | mean (95 % interval) | median | quartiles |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, scores in summary["systems"].items():
        for metric, facts in summary["metrics"].items():
            low, high = summary["quartiles"][name][metric]
            lines.append(
                f"| {name} | {scores['n']} | {scores['failures']} | {facts['title']} | {interval(scores[metric])} | "
                f"{scores[metric]['median']:.3f} | {low:.3f} to {high:.3f} |"
            )
    lines += ["", f"## {results.reference} minus the others, on the same cases", ""]
    lines += ["| other | metric | mean difference (95 % interval) | n | patients |", "|---|---|---|---|---|"]
    for pair in summary["paired"]:
        difference = interval(pair, key="mean_difference")
        name = summary["metrics"][pair["metric"]]["title"]
        lines.append(f"| {pair['second']} | {name} | {difference} | {pair['n']} | {pair['patients']} |")
    failed = [row for row in results.rows if row.failed]
    if failed:
        lines += ["", "## Failed cases", ""]
        lines += [f"- {row.system}: {row.title}: {row.reason}" for row in failed]
    lines += ["", *(f"- {note}" for note in summary["notes"]), ""]
    return "\n".join(lines)
