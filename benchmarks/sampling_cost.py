"""What K samples of a slice cost beside one, and where the time goes.

    python benchmarks/sampling_cost.py [--samples 1 8 16] [--repeats 7] [--checkpoint runs/hippocampus/best] [--rows]

One drawn slice is reconstructed with each K in turn, round after round in one process, so that what else the machine
does falls on all alike; each figure is the median of its rounds. Seconds are the processor's (of all threads) on a
CPU, and wall clock on a GPU. The parts: `condition` embeds the slice, `flow` draws the latents, `decode` makes grids of
them, `fit` moves them to the mask, `average` puts them on one grid, `surface` draws it, `latent` refines it, `spread`
measures how far they disagree (it is not in `all`), and `rest` is preparation and poses. With --rows also the ways of
`reconstruct.variants`, which share samples, against each way with samples of its own.
"""

import argparse
import dataclasses
import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from sam3d_objects.adapter import InferenceContract
from sam3d_objects.cli.models import load_adapted
from sam3d_objects.cli.self_test import drawn_slice
from sam3d_objects.config import ReconstructOptions
from sam3d_objects.model import SAM3DObjects, load_model
from sam3d_objects.reconstruct import PatientField, Reconstructor, variants

MODULE = "sam3d_objects.reconstruct.reconstructor"
PARTS = ("condition", "flow", "decode", "fit", "average", "surface", "latent", "spread", "rest")
CONTRACT = InferenceContract(field_of_view="mask_margin", modality="mr", steps=5)
STRUCTURE = "structure"


class Watch:
    """Seconds spent in named parts."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        # On one thread of a machine that others use, too, the processor's seconds are the steadier ones.
        self.clock = time.process_time if device.type == "cpu" else time.perf_counter
        self.seconds = dict.fromkeys(PARTS, 0.0)

    def now(self) -> float:
        """Seconds, when the device has done what it was told."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return self.clock()

    def timed(self, part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, whose time counts for a part."""

        def run(*positional: Any, **named: Any) -> Any:
            start = self.now()
            try:
                return call(*positional, **named)
            finally:
                self.seconds[part] += self.now() - start

        return run


@contextmanager
def watched(model: SAM3DObjects) -> Iterator[Watch]:
    """Time the parts of every reconstruction with a model."""
    from sam3d_objects.reconstruct import reconstructor

    watch = Watch(model.device)
    methods = {"embed": "condition", "sample_structure": "flow", "decode_structure": "decode"}
    functions = {
        "fit_to_mask": "fit",
        "average": "average",
        "surface_through_mask": "surface",
        "refine": "latent",
        "spread_mm": "spread",
    }
    with ExitStack() as stack:
        for name, part in methods.items():
            stack.enter_context(mock.patch.object(model, name, watch.timed(part, getattr(model, name))))
        for name, part in functions.items():
            stack.enter_context(mock.patch(f"{MODULE}.{name}", watch.timed(part, getattr(reconstructor, name))))
        stack.enter_context(mock.patch.object(PatientField, "mesh", watch.timed("surface", PatientField.mesh)))
        yield watch


def one_round(model: SAM3DObjects, contract: InferenceContract, stages: str) -> dict[str, float]:
    """Seconds of one reconstruction, in all and by part; the spread beside it is not in `all`."""
    # The spread draws surfaces, too: it is timed apart, so that the parts add up.
    reconstruct = Reconstructor(model, contract, stages)
    slice = drawn_slice()
    with watched(model) as watch:
        start = watch.now()
        mesh = reconstruct(slice, 0)
        total = watch.now() - start
    seconds = dict(watch.seconds)
    seconds["rest"] = total - sum(seconds.values())
    samples = reconstruct.samples(slice, 0)
    start = watch.now()
    Reconstructor(model, contract, stages, lambda *_: samples).spread_mm(mesh, slice, 0)
    seconds["spread"] = watch.now() - start
    return {"all": total, **seconds}


def measure(
    model: SAM3DObjects, contract: InferenceContract, counts: list[int], repeats: int, stages: str
) -> dict[int, dict[str, float]]:
    """K -> median seconds of a reconstruction, in all and by part."""
    ways = {count: dataclasses.replace(contract, samples=count) for count in counts}
    for way in ways.values():
        one_round(model, way, stages)  # loads what the first call loads
    rounds = [{count: one_round(model, way, stages) for count, way in ways.items()} for _ in range(repeats)]
    return {
        count: {part: statistics.median(one[count][part] for one in rounds) for part in ("all", *PARTS)}
        for count in counts
    }


def measure_rows(model: SAM3DObjects, contract: InferenceContract, repeats: int, stages: str) -> dict[str, float]:
    """Median seconds of all variants of a slice with shared samples, and with samples of their own."""
    device = Watch(model.device)
    seconds: dict[str, list[float]] = {"shared": [], "apart": []}
    for _ in range(repeats):
        ways = variants(model, contract, stages)
        slice = drawn_slice()
        start = device.now()
        for way in ways.values():
            way(slice, 0)
        middle = device.now()
        for way in ways.values():
            Reconstructor(model, way.contract, stages)(slice, 0)
        seconds["shared"].append(middle - start)
        seconds["apart"].append(device.now() - middle)
    return {name: statistics.median(values) for name, values in seconds.items()}


def table(found: dict[int, dict[str, float]]) -> str:
    """The figures for people: milliseconds, and the ratio to the first K."""
    first = next(iter(found.values()))["all"]
    lines = [f"{'K':>3}{'all ms':>9}{'ratio':>7}" + "".join(f"{part:>10}" for part in PARTS)]
    for count, seconds in found.items():
        parts = "".join(f"{1000 * seconds[part]:>10.1f}" for part in PARTS)
        lines.append(f"{count:>3}{1000 * seconds['all']:>9.1f}{seconds['all'] / first:>7.2f}{parts}")
    return "\n".join(lines)


def main() -> None:
    """Print the costs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--samples", type=int, nargs="+", default=[1, 8, 16], help="numbers of samples (default 1 8 16)"
    )
    parser.add_argument("--repeats", type=int, default=7, help="rounds (default 7)")
    parser.add_argument("--stages", default=STRUCTURE, choices=("structure", "both"), help="default structure")
    parser.add_argument("--checkpoint", type=Path, help="an adapter, and its contract (default: the base alone)")
    parser.add_argument("--base", default="tiny", help="base model (default tiny)")
    parser.add_argument("--device", default="cpu", help="cpu | cuda (default cpu)")
    parser.add_argument("--rows", action="store_true", help="also variants that share samples against ones that do not")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    given = parser.parse_args()
    options = ReconstructOptions(base=given.base, device=given.device, stages=given.stages)
    if given.checkpoint:
        model, contract = load_adapted(given.checkpoint, options)
    else:
        model, contract = load_model(given.base, given.device), CONTRACT
    print(f"{torch.get_num_threads()} threads, {given.device}, stages {given.stages}; spread is beside `all`")
    found = measure(model, contract, given.samples, given.repeats, given.stages)
    print(table(found))
    record: dict[str, Any] = {"seconds": found}
    if given.rows:
        record["rows"] = measure_rows(model, contract, given.repeats, given.stages)
        shared, apart = record["rows"]["shared"], record["rows"]["apart"]
        print(f"all variants of a slice, K = {contract.samples}: {shared:.2f} s shared, {apart:.2f} s apart")
    if given.json:
        given.json.write_text(json.dumps(record, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
