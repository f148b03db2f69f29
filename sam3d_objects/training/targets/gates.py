"""Gates: targets that encoder and decoder do not give back are refused, by name."""

from collections.abc import Iterable

_NAMED = 20


def check_targets(ious: Iterable[tuple[str, float]], bar: float) -> None:
    """Refuse targets whose encode -> decode overlap is under the bar.

    Args:
        ious: (name of the shape, IoU) pairs.
        bar: the least IoU; 0 accepts all.

    Raises:
        ValueError: some are under the bar; the message names them, worst first, and says what can be done.
    """
    poor = sorted((iou, name) for name, iou in ious if iou < bar)
    if poor:
        raise ValueError(
            f"{len(poor)} shapes have an encode -> decode IoU under {bar:.2f}: {_listed(poor, '.2f')}. "
            "Leave these cases out, use a base with a finer grid, or lower the bar (target_iou_bar)"
        )


def check_distances(distances: Iterable[tuple[str, float]], bar: float) -> None:
    """Refuse targets whose decoded surface is farther from the shape than the bar.

    Args:
        distances: (name of the shape, mean surface distance as a share of its longest side) pairs; infinite where
            nothing was decoded.
        bar: the largest share; 0 accepts all.

    Raises:
        ValueError: some are over the bar; the message names them, worst first, and says what can be done.
    """
    poor = sorted(((distance, name) for name, distance in distances if distance > bar), reverse=True)
    if bar > 0 and poor:
        raise ValueError(
            f"{len(poor)} shapes have an encode -> decode surface distance over {100 * bar:.2f} % of their size: "
            f"{_listed([(100 * distance, name) for distance, name in poor], '.2f')}. Leave these cases out, use a base "
            "with a finer grid, give inversion more steps, or raise the bar (target_distance_bar; 0 accepts all)"
        )


def _listed(poor: list[tuple[float, str]], form: str) -> str:
    listed = ", ".join(f"{name} ({value:{form}})" for value, name in poor[:_NAMED])
    return f"{listed} and {len(poor) - _NAMED} more" if len(poor) > _NAMED else listed
