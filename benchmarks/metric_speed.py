"""How long the mask metrics of real pairs take: ours beside MONAI's and surface-distance's functions, in one run.

    python benchmarks/metric_speed.py --labels Task04_Hippocampus/labelsTr

Twenty pairs at 1 mm: a label beside itself shifted, eroded or dilated, or beside another patient's. Each pair is
measured by all three, one after another and in turning order, so that whatever else the machine does hits all alike;
times are medians over the repeats, ratios medians over the pairs. The metrics are Dice, IoU, HD95, ASSD, surface Dice
at 1 and 2 mm and the volume error. MONAI's functions share nothing with each other; surface-distance computes distances
once, as we do. Converting masks to tensors is not timed. `--out` also writes JSON.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from sam3d_objects.arrays import BoolArray
from sam3d_objects.evaluation import METRICS, compare_masks
from sam3d_objects.files import write_json
from sam3d_objects.volume import read_label

PAIRS = 20
SPACING_MM = (1.0, 1.0, 1.0)
MASK_METRICS = ("dice", "iou", "hd95_mm", "assd_mm", "surface_dice_1mm", "surface_dice_2mm", "volume_error_percent")
Scores = dict[str, float]


@dataclass(frozen=True, eq=False)
class Pair:
    """Two masks (I, J, K) bool on one grid of 1 mm, and how the prediction was made."""

    kind: str
    prediction: BoolArray
    truth: BoolArray


def real_pairs(labels: Sequence[Path], count: int = PAIRS) -> list[Pair]:
    """Pairs of label maps (NIfTI, nearest voxel at 1 mm, any label above 0): one pair a file, kinds in turn.

    Raises:
        ValueError: fewer than `count` files, or fewer than two.
    """
    if len(labels) < max(count, 2):
        raise ValueError(f"expected at least {max(count, 2)} label files, got {len(labels)}")
    masks = [_at_1_mm(path) for path in labels[:count]]
    pairs = []
    for number, truth in enumerate(masks):
        kind = ("shifted", "eroded", "another patient's", "dilated")[number % 4]
        if kind == "shifted":
            shift = tuple(np.random.default_rng(number).integers(-3, 4, size=3))
            prediction = ndimage.shift(truth.astype(np.uint8), shift, order=0).astype(bool)
        elif kind == "another patient's":
            other = masks[(number + 2) % len(masks)]
            shape = np.maximum(truth.shape, other.shape)
            truth, prediction = (np.pad(mask, [(0, int(n)) for n in shape - mask.shape]) for mask in (truth, other))
        else:
            change = ndimage.binary_erosion if kind == "eroded" else ndimage.binary_dilation
            prediction = change(truth)
        pairs.append(Pair(kind, np.asarray(prediction, dtype=bool), truth))
    return pairs


def _at_1_mm(path: Path) -> BoolArray:
    label = read_label(path)
    factors = label.spacing_mm / SPACING_MM
    return np.asarray(ndimage.zoom(label.voxels > 0, factors, order=0, grid_mode=True, mode="grid-constant"))


def ours(pair: Pair) -> Callable[[], Scores]:
    """Our metrics of a pair, ready to be called."""
    affine = np.diag([*SPACING_MM, 1.0])

    def measure() -> Scores:
        comparison = compare_masks(pair.prediction, pair.truth, affine)
        return {name: METRICS[name].of(comparison) for name in MASK_METRICS}

    return measure


def of_surface_distance(pair: Pair) -> Callable[[], Scores]:
    """The same by surface-distance, which has no IoU and no volume error: they follow from the masks."""
    import surface_distance

    def measure() -> Scores:
        found = surface_distance.compute_surface_distances(pair.truth, pair.prediction, SPACING_MM)
        to_prediction, to_truth = surface_distance.compute_average_surface_distance(found)
        truth_mm2, prediction_mm2 = found["surfel_areas_gt"].sum(), found["surfel_areas_pred"].sum()
        dice = surface_distance.compute_dice_coefficient(pair.truth, pair.prediction)
        return {
            "dice": dice,
            "iou": dice / (2 - dice),
            "hd95_mm": surface_distance.compute_robust_hausdorff(found, 95),
            # It gives the two directed means; ours is the mean over the area of both surfaces.
            "assd_mm": (to_prediction * truth_mm2 + to_truth * prediction_mm2) / (truth_mm2 + prediction_mm2),
            "surface_dice_1mm": surface_distance.compute_surface_dice_at_tolerance(found, 1.0),
            "surface_dice_2mm": surface_distance.compute_surface_dice_at_tolerance(found, 2.0),
            "volume_error_percent": 100 * abs(pair.prediction.sum() / pair.truth.sum() - 1),
        }

    return measure


def of_monai(pair: Pair) -> Callable[[], Scores]:
    """The same by MONAI, with sub-voxels where it has them, which is our definition of the surface Dice."""
    from monai import metrics

    prediction, truth = (torch.from_numpy(mask)[None, None].float() for mask in (pair.prediction, pair.truth))
    both: dict[str, Any] = {"y_pred": prediction, "y": truth, "include_background": True}

    def measure() -> Scores:
        spaced = {**both, "spacing": SPACING_MM}
        near = [
            metrics.compute_surface_dice(**spaced, class_thresholds=[limit], use_subvoxels=True) for limit in (1.0, 2.0)
        ]
        return {
            "dice": metrics.compute_dice(**both).item(),
            "iou": metrics.compute_iou(**both).item(),
            "hd95_mm": metrics.compute_hausdorff_distance(**spaced, percentile=95).item(),
            "assd_mm": metrics.compute_average_surface_distance(**spaced, symmetric=True).item(),
            "surface_dice_1mm": near[0].item(),
            "surface_dice_2mm": near[1].item(),
            "volume_error_percent": 100 * abs((prediction.sum() / truth.sum()).item() - 1),
        }

    return measure


WAYS = {"ours": ours, "MONAI": of_monai, "surface-distance": of_surface_distance}


def seconds_of(pair: Pair, repeats: int) -> dict[str, float]:
    """Median seconds of each way for one pair, measured in turn."""
    measures = {name: way(pair) for name, way in WAYS.items()}
    for measure in measures.values():
        measure()
    seconds: dict[str, list[float]] = {name: [] for name in measures}
    names = list(measures)
    for repeat in range(repeats):
        for name in names[repeat % 3 :] + names[: repeat % 3]:
            started = time.perf_counter()
            measures[name]()
            seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


def ratios(seconds: Sequence[dict[str, float]]) -> dict[str, dict[str, float]]:
    """For each way that is not ours: how many times our time it takes, by pair (median) and for the whole set."""
    return {
        name: {
            "median_ratio": statistics.median(pair[name] / pair["ours"] for pair in seconds),
            "lowest_ratio": min(pair[name] / pair["ours"] for pair in seconds),
            "set_ratio": sum(pair[name] for pair in seconds) / sum(pair["ours"] for pair in seconds),
        }
        for name in WAYS
        if name != "ours"
    }


def main() -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", type=Path, required=True, help="folder of label maps, *.nii.gz")
    parser.add_argument("--repeats", type=int, default=5, help="calls, of which the median counts (default 5)")
    parser.add_argument("--out", type=Path, help="also write the figures to this JSON file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    pairs = real_pairs(sorted(arguments.labels.glob("*.nii.gz")))
    seconds = [seconds_of(pair, arguments.repeats) for pair in pairs]
    found = ratios(seconds)
    print(f"{len(pairs)} pairs at 1 mm, {arguments.repeats} repeats, one thread")
    print(f"{'':20}{'ms a pair':>12}{'times ours':>12}{'lowest':>12}{'whole set':>12}")
    for name in WAYS:
        milliseconds = 1000 * statistics.median(pair[name] for pair in seconds)
        print(f"{name:20}{milliseconds:>12.1f}" + "".join(f"{ratio:>12.2f}" for ratio in found.get(name, {}).values()))
    if arguments.out:
        kinds = [{"kind": pair.kind, **times} for pair, times in zip(pairs, seconds, strict=True)]
        write_json(arguments.out, {"pairs": kinds, "ratios": found})


if __name__ == "__main__":
    main()
