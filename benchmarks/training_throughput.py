"""Training steps a second of the structure stage on the tiny model: plain, and with each of the ways to be quicker.

    python benchmarks/training_throughput.py [--data_root DIR] [--device cuda] [--rounds 3]

Without DIR it trains on synthetic phantoms that it makes. Every variant is a loop of its own on the same slices; its
first epoch, in which slices are embedded and cached or the network is compiled (a minute), is not counted. Then the
variants take turns, an epoch each, so that a busy machine slows all of them alike; ratios are of the medians over the
rounds, all from one run.
Threads are what OMP_NUM_THREADS says, one if it says nothing.
"""

import argparse
import io
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch reads it

import torch
from rich.console import Console

from sam3d_objects.dataset import Augment, PrepareOptions, TS_SAM3D_Dataset, prepare
from sam3d_objects.model import load_model
from sam3d_objects.synthetic import write_phantoms
from sam3d_objects.training import LoopOptions, MedicalTrainer, StructureOptions, StructureStage, contract_of

PHANTOMS = 5
ORGAN = "phantom_bean"
RANK, DRAWS = 16, 1  # as `sam3d-med train` has them


@dataclass(frozen=True)
class Variant:
    """One way to train the same."""

    name: str
    cache_epochs: int = 0
    checkpointed: bool = False
    compiled: bool = False


VARIANTS = (
    Variant("plain"),
    Variant("cached tokens", cache_epochs=1),
    Variant("checkpointing", checkpointed=True),
    Variant("compile", compiled=True),
)


@dataclass(frozen=True)
class Timing:
    """Seconds of a variant's first epoch, and of a step in each later one."""

    first_s: float
    step_s: list[float]

    @property
    def median_s(self) -> float:
        """The median over the rounds."""
        return statistics.median(self.step_s)


def phantom_data(folder: Path) -> Path:
    """Make and prepare a few phantoms; all but one train."""
    write_phantoms(folder / "scans", PHANTOMS)
    options = PrepareOptions(structures=ORGAN, val_fraction=0.0, test_fraction=1 / PHANTOMS, num_workers=0)
    prepare(folder / "scans", folder / "prepared", options, show_progress=False)
    return folder / "prepared"


def trainer(variant: Variant, data_root: Path, folder: Path, batch_size: int, device: str) -> MedicalTrainer:
    """A loop over two axial slices of each training organ."""
    model = load_model("tiny", stages=("structure",))
    train = TS_SAM3D_Dataset(data_root, "train", planes=("axial",), augment=Augment(), slices_per_plane=2)
    options = StructureOptions(
        rank=RANK, alpha=2.0 * RANK, draws=DRAWS, target_iou_bar=0.0, cache_epochs=variant.cache_epochs
    )
    stage = StructureStage(model, train, None, folder / "targets", contract_of(train, model), options)
    loop = LoopOptions(
        epochs=1000,
        batch_size=batch_size,
        checkpoint_steps=0,
        device=device,
        compile=variant.compiled,
        checkpoint_activations=variant.checkpointed,
    )
    return MedicalTrainer(stage, loop, folder / variant.name, console=Console(file=io.StringIO()))


def epoch_seconds(loop: MedicalTrainer) -> float:
    """Train one epoch of a loop."""
    began = time.perf_counter()
    loop.train_epoch()
    if loop.fabric.device.type == "cuda":
        torch.cuda.synchronize()
    loop.counters.next_epoch()
    return time.perf_counter() - began


def measure(data_root: Path, folder: Path, rounds: int, batch_size: int, device: str) -> dict[str, Timing]:
    """Warm every variant up, then let them take turns."""
    loops = {variant.name: trainer(variant, data_root, folder, batch_size, device) for variant in VARIANTS}
    timings = {name: Timing(epoch_seconds(loop), []) for name, loop in loops.items()}
    for _ in range(rounds):
        for name, loop in loops.items():
            timings[name].step_s.append(epoch_seconds(loop) / loop.batches_per_epoch)
    return timings


def main() -> int:
    """Print a line a variant."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_root", type=Path, help="a prepared data set (default: synthetic phantoms)")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, ...")
    parser.add_argument("--rounds", type=int, default=3, help="epochs of each variant that count (default 3)")
    parser.add_argument("--batch_size", type=int, default=4, help="slices in a step (default 4)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        data_root = given.data_root or phantom_data(Path(scratch))
        timings = measure(data_root, Path(scratch), given.rounds, given.batch_size, given.device)
    print(f"{given.device}, {torch.get_num_threads()} threads, torch {torch.__version__}, batch {given.batch_size}")
    print(f"{'variant':18}{'first epoch s':>14}{'step s':>9}{'steps/s':>9}{'ratio':>8}")
    plain = timings[VARIANTS[0].name].median_s
    for name, timing in timings.items():
        step = timing.median_s
        print(f"{name:18}{timing.first_s:>14.1f}{step:>9.3f}{1 / step:>9.2f}{plain / step:>8.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
