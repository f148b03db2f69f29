"""The way of sampling that scores best on validation patients: how many samples, fitted or not, at which threshold."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from sam3d_objects.evaluation import Material
from sam3d_objects.mesh import ObjectFrame
from sam3d_objects.reconstruct import PlacedSolid, average
from sam3d_objects.reconstruct.variants import SharedSamples

from .threshold import THRESHOLDS, voxel_dice

if TYPE_CHECKING:
    from sam3d_objects.adapter import AdapterSet, InferenceContract
    from sam3d_objects.arrays import FloatArray
    from sam3d_objects.model import SAM3DObjects

CHOSEN = "chosen_on_validation"
"""Key of `AdapterMeta.training` under which a choice is kept."""
_PLACES = ("left", "up", "through", "log_size")
_DIGITS = 4


@dataclass(frozen=True)
class Way:
    """One way of sampling at its best threshold, and the mean Dice that it has on validation slices."""

    samples: int
    fit: bool
    threshold: float
    dice: float


@dataclass(frozen=True, eq=False)
class Choice:
    """What was tried on validation slices.

    Attributes:
        ways: what was tried, the best first.
        slices: how many slices the means are of.
        residuals: of samples as `drawn` and as `fitted`: root mean square of what lies between their frame and the
            organ's own, in the camera's axes as shares of the organ's size, and as the logarithm of the sizes' ratio.
    """

    ways: tuple[Way, ...]
    slices: int
    residuals: Mapping[str, Mapping[str, float]]

    @property
    def best(self) -> Way:
        """The way to be used."""
        return self.ways[0]

    def record(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {"slices": self.slices, "ways": [asdict(way) for way in self.ways], "pose_residuals": self.residuals}


def sample_counts(samples: int) -> tuple[int, ...]:
    """The numbers of samples that are tried where at most `samples` are allowed: one, half of them, all."""
    return tuple(sorted({1, max(samples // 2, 1), samples}))


def choose_way(model: "SAM3DObjects", contract: "InferenceContract", slices: Sequence[Material], seed: int) -> Choice:
    """Find the way of sampling with the best mean Dice over validation slices.

    Tried are one, half and all of the contract's samples, fitted to the mask and not (not only, where the contract says
    so), each at every threshold of THRESHOLDS. The K samples of a slice are drawn once, and fitted once: fewer are the
    first of them. Of ways that score alike the one of fewer samples is taken.

    Args:
        model, contract: what is sampled, and how; its samples K are the most that are used.
        slices: at least one, with their truths.
        seed: of the samples.
    """
    shared = SharedSamples(model, contract)
    fits = (True, False) if contract.fit else (False,)
    ways = [(count, fit) for count in sample_counts(contract.samples) for fit in fits]
    dice = np.zeros((len(ways), len(THRESHOLDS)))
    off: dict[bool, list[FloatArray]] = {fit: [] for fit in fits}
    for one in slices:
        for row, (count, fit) in enumerate(ways):
            field = average(shared.first(one.slice, seed, count, fit))
            dice[row] += [voxel_dice(partial(field.mesh, threshold), one.truth) for threshold in THRESHOLDS]
        for fit in fits:
            off[fit] += [_off(sample, one) for sample in shared.first(one.slice, seed, contract.samples, fit)]
    dice /= len(slices)
    found = [
        Way(count, fit, THRESHOLDS[int(scores.argmax())], round(float(scores.max()), _DIGITS))
        for (count, fit), scores in zip(ways, dice, strict=True)
    ]
    residuals = {"fitted" if fit else "drawn": _root_mean_square(rows) for fit, rows in off.items()}
    return Choice(tuple(sorted(found, key=lambda way: -way.dice)), len(slices), residuals)


def _off(sample: PlacedSolid, one: Material) -> "FloatArray":
    """(4,) how far a sample's frame is from the organ's, as `Choice.residuals` says."""
    frame = ObjectFrame.from_points(one.truth.mesh.vertices)
    shift = one.slice.plane.camera_axes @ (sample.frame.center_mm - frame.center_mm) / frame.size_mm
    return np.append(shift, np.log(sample.frame.size_mm / frame.size_mm))


def _root_mean_square(rows: "Sequence[FloatArray]") -> dict[str, float]:
    values = np.sqrt(np.square(rows).mean(axis=0))
    return {name: round(float(value), _DIGITS) for name, value in zip(_PLACES, values, strict=True)}


def ways_table(choice: Choice) -> str:
    """Return the ways that were tried as lines for people, the best first."""
    lines = [f"ways of sampling on {choice.slices} validation slices, the best first (it is the default from now on):"]
    for way in choice.ways:
        fit = "fitted to the mask" if way.fit else "not fitted"
        lines.append(f"  {way.samples:>3} samples, {fit:<18}, threshold {way.threshold:.2f}: mean Dice {way.dice:.3f}")
    return "\n".join(lines)


def sampling_line(adapters: "AdapterSet", used: "InferenceContract") -> str:
    """Return what a mesh is drawn with and why: chosen on validation patients, or told otherwise.

    Args:
        adapters: what is used.
        used: their contract with what the options said otherwise.
    """
    fit = "fitted to the mask" if used.fit else "not fitted"
    line = f"{used.samples} samples in {used.steps} steps, {fit}, threshold {used.threshold:g}"
    given = [name for name in ("samples", "steps", "guidance", "threshold", "fit") if _differs(adapters, used, name)]
    if given:
        return f"{line} ({', '.join(given)} as asked for, not as the adapter was validated)"
    kept = adapters.records[adapters.stages[0]].meta.training.get(CHOSEN)
    if kept is None:
        return f"{line} (the adapter's own; not chosen on validation patients)"
    best = kept["ways"][0]
    return f"{line} (best of {len(kept['ways'])} ways on {kept['slices']} validation slices, Dice {best['dice']:.3f})"


def _differs(adapters: "AdapterSet", used: "InferenceContract", name: str) -> bool:
    return bool(getattr(adapters.contract, name) != getattr(used, name))
