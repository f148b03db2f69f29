"""One evaluation as the commands run it: how many processes, what is shown meanwhile, what lies beside the scores."""

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from rich.console import Console
from rich.progress import Progress

from sam3d_objects.config import EvaluateOptions
from sam3d_objects.config.reconstruct import ADAPTED_STAGES
from sam3d_objects.dataset.pool import cpu_count
from sam3d_objects.evaluation import Case, Row, SummaryOptions, System, evaluate, write_summary
from sam3d_objects.evaluation.calibration import write_calibration
from sam3d_objects.evaluation.jobs import Progress as Told
from sam3d_objects.evaluation.protocols import run_protocol
from sam3d_objects.evaluation.stated import stated_calibration
from sam3d_objects.evaluation.workers import can_fork
from sam3d_objects.files import atomic_path

from .models import torch_device
from .systems import STATING

if TYPE_CHECKING:
    from .models import Models

MOST_WORKERS = 8
# Larger models work with all threads in one process: beside each other their activations would fill the memory.
SMALL_PARAMETERS = 250_000_000
HISTORY = "history.json"
_LINE_S = 30.0  # between lines where there is no terminal to draw a bar on


def worker_count(models: "Models", options: EvaluateOptions) -> int:
    """How many processes predict and score; 0 is this one, with all its threads.

    Raises:
        ValueError: workers were asked for, and the model is on a GPU, which forked processes cannot share.
    """
    on_gpu = torch.device(torch_device(options.device)).type != "cpu"
    if options.workers is not None:
        if options.workers and on_gpu:
            raise ValueError(
                f"--workers {options.workers} are processes that cannot share the GPU; leave it out, or take --workers "
                "0 or --device cpu"
            )
        return options.workers
    size = sum(parameter.numel() for parameter in models.base.parameters())
    # torch's gradients fail in a fork of a process that used them where it sees a GPU.
    if torch.cuda.is_available() or not can_fork() or size > SMALL_PARAMETERS:
        return 0
    return min(cpu_count(), MOST_WORKERS)


@dataclass(frozen=True)
class Judging:
    """What is judged, into which folder, by how many processes; see `evaluate`."""

    cases: Sequence[Case]
    systems: Mapping[str, System]
    out: Path
    seed: int
    identity: str
    workers: int

    def in_patient_space(self, options: SummaryOptions, noted: Callable[[list[Row]], tuple[str, ...]]) -> None:
        """Score in patient millimetres; `noted` says what there is to say of the rows."""

        def conclude(rows: list[Row]) -> None:
            write_calibration(self.out, stated_calibration(self.out, [row for row in rows if row.system == STATING]))
            write_summary(self.out, rows, replace(options, notes=(*options.notes, *noted(rows))))

        with told("evaluating", len(self.cases) * len(self.systems)) as progress:
            evaluate(
                self.cases,
                self.systems,
                self.out,
                self.seed,
                identity=self.identity,
                progress=progress,
                workers=self.workers,
                conclude=conclude,
            )

    def by_slice3d(self, options: SummaryOptions) -> None:
        """Score as the published protocol `slice3d-2602` does."""
        with told("evaluating by slice3d-2602", len(self.cases) * len(self.systems)) as progress:
            run_protocol(
                self.cases,
                self.systems,
                self.out,
                self.seed,
                identity=self.identity,
                options=options,
                progress=progress,
                workers=self.workers,
            )


@contextmanager
def told(title: str, total: int) -> Iterator[Told]:
    """Show how much is done and how long the rest takes: a bar on a terminal, else a line now and then."""
    console = Console()
    if not console.is_terminal:
        yield _Lines()
        return
    # Drawn by the rows alone: a thread that draws must not run where processes are forked.
    with Progress(console=console, auto_refresh=False) as bar:
        task = bar.add_task(title, total=total)
        yield lambda done, of, line: bar.update(task, completed=done, description=line, refresh=True)


class _Lines:
    """Prints the first line, the last one, and one each `_LINE_S` between."""

    def __init__(self) -> None:
        self.printed: float | None = None

    def __call__(self, done: int, total: int, line: str) -> None:
        now = time.monotonic()
        if self.printed is None or done == total or now - self.printed >= _LINE_S:
            self.printed = now
            print(line, flush=True)


def keep_history(checkpoint: Path, out: Path) -> None:
    """Copy the training curves that lie beside an adapter into the evaluation's folder, where the report finds them.

    Those of a run of one stage become history.json, those of a run of all stages history_STAGE.json.
    """
    run = checkpoint.parent
    found = {out / HISTORY: run / HISTORY}
    found |= {out / f"history_{stage}.json": run / stage / HISTORY for stage in ADAPTED_STAGES}
    for target, source in found.items():
        if source.is_file():
            with atomic_path(target) as temporary:
                shutil.copyfile(source, temporary)
