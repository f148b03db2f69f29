"""Gallery: which cases are shown, so that nobody picks the pretty ones, and how."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from sam3d_objects.arrays import AnyArray
from sam3d_objects.report.cuts import case_cuts
from sam3d_objects.report.html import plot, quoted, tag
from sam3d_objects.report.results import Results, Row
from sam3d_objects.report.solids import alt, colourscale, poster, scale_mm, solid_chart
from sam3d_objects.report.surfaces import Surface, compared_surfaces
from sam3d_objects.report.systems import phrase, title
from sam3d_objects.report.verdict import best_baseline

_FAILURES = 3


@dataclass(frozen=True, eq=False)
class Shown:
    """A case of the gallery: its heading, row, artefact, and both surfaces where they are."""

    heading: str
    row: Row
    artefact: dict[str, AnyArray]
    predicted: Surface | None
    truth: Surface | None


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


def gallery(results: Results) -> list[str]:
    """The section's HTML; empty when no artefacts were saved."""
    cases = [_shown(results, *chosen) for chosen in chosen_cases(results)]
    if not cases:
        return []
    surfaces = [surface for case in cases for surface in (case.predicted, case.truth) if surface is not None]
    limit_mm = scale_mm(surfaces)
    failures = results.summary["systems"][results.reference]["failures"]
    said = f"The first {min(failures, _FAILURES)} of {failures} failed ones follow." if failures else ""
    name = title(results.reference)
    return [
        '<section class="gallery">',
        tag("h2", f"Cases of the {name}"),
        tag("p", f"Chosen by rule: the best, the median and the worst Dice of the {name}. {said}".rstrip()),
        *(_card(results, case, limit_mm, number) for number, case in enumerate(cases)),
        "</section>",
    ]


def _shown(results: Results, heading: str, row: Row, artefact: dict[str, AnyArray]) -> Shown:
    saved = results.truth(row)
    predicted, truth = compared_surfaces(
        (artefact["vertices"], artefact["faces"]), None if saved is None else (saved["vertices"], saved["faces"])
    )
    return Shown(heading, row, artefact, predicted, truth)


_OUTLINES = "".join(
    f'<span><i class="line {name}"></i>{meaning}</span>'
    for name, meaning in (("truth", "true organ"), ("prediction", "prediction"), ("mask", "mask that was given"))
)


def _ramp(limit_mm: float) -> str:
    """What the colours of a 3D view mean, in mm."""
    colours = ", ".join(str(colour) for _, colour in colourscale())
    return (
        '<span class="ramp">prediction too small '
        f'&minus;{limit_mm:g} mm<i style="background:linear-gradient(90deg, {colours})"></i>+{limit_mm:g} mm too large'
        "</span>"
    )


def _card(results: Results, case: Shown, limit_mm: float, number: int) -> str:
    cuts = "".join(
        f'<figure class="cut">{cut.svg}{tag("figcaption", cut.heading)}</figure>'
        for cut in case_cuts(case.row, case.artefact)
    )
    row = case.row
    reason = tag("p", f"No prediction could be scored: {row.reason}", "reason") if row.failed else ""
    return (
        f'<article class="case"><header>{tag("h3", case.heading)}{tag("p", row.title)}</header>'
        f'{_scores(results, case)}{reason}<div><div class="key">{_OUTLINES}</div>'
        f'<div class="cuts">{cuts}</div></div>{_solid(case, limit_mm, number)}</article>'
    )


def _scores(results: Results, case: Shown) -> str:
    """The case's figures, the spread that was stated, and the Dice of the base model and the best alternative."""
    row = case.row
    if row.failed:
        return ""
    shown: Sequence[tuple[str, str]] = [
        ("Dice", f"{row.scores['dice']:.3f}"),
        ("HD95", f"{row.scores['hd95_mm']:.1f} mm"),
        ("mean surface error", f"{row.scores['assd_mm']:.1f} mm"),
        ("volume error", f"{row.scores['volume_error_percent']:.0f} %"),
    ]
    if "spread_mean_mm" in case.artefact:
        shown = [*shown, ("stated spread", f"± {float(case.artefact['spread_mean_mm']):.1f} mm")]
    for name in dict.fromkeys(("base", best_baseline(results))):
        others = results.of_system(name) if name is not None and name != row.system else []
        same = [other for other in others if other.case_key == row.case_key]
        shown = [*shown, *((f"Dice of {phrase(other.system)}", f"{other.scores['dice']:.3f}") for other in same)]
    pairs = "".join(f"<div>{tag('dt', name)}{tag('dd', text)}</div>" for name, text in shown)
    return f'<dl class="scores">{pairs}</dl>'


def _solid(case: Shown, limit_mm: float, number: int) -> str:
    if case.predicted is None and case.truth is None:
        return ""
    picture = poster(case.predicted, case.truth, limit_mm)
    corners_mm = case.artefact.get("slice_corners_mm")
    view = solid_chart(case.predicted, case.truth, corners_mm, limit_mm, case.row.title)
    above = "prediction (grey: true organ)" if case.predicted is not None else "no prediction"
    below = "true organ" if case.truth is not None else "true surface not saved"
    words = quoted(alt(case.predicted, case.row.title))
    ramp = "" if case.predicted is None or case.truth is None else _ramp(limit_mm)
    frame = (
        "" if corners_mm is None else '<span><i class="line frame"></i>yellow frame: the slice that was given</span>'
    )
    return (
        f'<figure class="solid"><div class="key">{ramp}{frame}</div>'
        f'<div class="stage"><img src="{picture}" alt="{words}">'
        f"{plot(view, f'solid-{number}')}<span>{escape(above)}</span><span>{escape(below)}</span></div>"
        "<figcaption>The colour is the distance between the two surfaces; point at one to read it. "
        "Drag to turn, click and scroll to zoom. "
        "R, L, A, P, S, I: the patient's right, left, front, back, head and feet.</figcaption></figure>"
    )
