"""Gallery: which cases are shown, so that nobody picks the pretty ones."""

from sam3d_objects.arrays import AnyArray
from sam3d_objects.report.results import Results, Row

_FAILURES = 3


def chosen_cases(results: Results) -> list[tuple[str, Row, dict[str, AnyArray]]]:
    """Heading, row and artefact of the reference's best, median and worst case by Dice, and of its first failed ones.

    Cases without an artefact are left out; a case that is two of these (there are fewer than three) is shown once.
    """
    rows = results.of_system(results.reference)
    scored = sorted((row for row in rows if not row.failed), key=lambda row: row.scores["dice"])
    wanted: list[tuple[str, Row]] = []
    if scored:
        wanted = [("Best", scored[-1]), ("Median", scored[len(scored) // 2]), ("Worst", scored[0])]
    wanted += [("Failed", row) for row in rows if row.failed][:_FAILURES]
    shown: list[tuple[str, Row, dict[str, AnyArray]]] = []
    for heading, row in wanted:
        artefact = results.artefact(row)
        if artefact is not None and row not in [other for _, other, _ in shown]:
            shown.append((heading, row, artefact))
    return shown
