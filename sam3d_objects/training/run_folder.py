"""The folder of a run: what is saved for use, what a resumed run needs, and the record of what it is."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from sam3d_objects.files import write_json
from sam3d_objects.training.checkpoint import differences, load_run_state, save_run_state
from sam3d_objects.training.journal import HISTORY_FILE, write_run_record
from sam3d_objects.training.learner import Learner
from sam3d_objects.training.processes import Processes
from sam3d_objects.training.result import TrainResult
from sam3d_objects.training.stage import Stage
from sam3d_objects.training.state import Counters, restore, restore_moments, snapshot

STATE_FILE = "state.safetensors"
BEST, LAST = "best", "last"


class RunFolder:
    """Reads in every process, writes in the first. All processes call its methods, in the same order.

    Args:
        path: the folder, which all processes can read.
        processes: of the run.
    """

    def __init__(self, path: Path, processes: Processes) -> None:
        self.path, self.processes = Path(path), processes
        self.best, self.last = self.path / BEST, self.path / LAST

    def holds_a_run(self) -> bool:
        """Return whether there is a checkpoint, as the first process sees it."""
        return self.processes.from_first((self.path / STATE_FILE).exists)

    def write_record(self, record: Mapping[str, Any], device: torch.device, step: int) -> None:
        """Write what the run is and where it runs, as `journal` says."""
        if self.processes.first:
            write_run_record(self.path, record, device, step)

    def keep(self, stage: Stage, learner: Learner, metrics: Mapping[str, float], best: bool) -> None:
        """Let the stage save itself as the last, and as the best if it is."""
        with learner.whole_saved_weights():
            for folder in (self.last, self.best) if best else (self.last,):
                if self.processes.first:
                    stage.save(folder, metrics)

    def save(self, learner: Learner, counters: Counters, record: Mapping[str, Any]) -> Path:
        """Write everything that a resumed run needs, atomically, and return the file."""
        path = self.path / STATE_FILE
        state = snapshot(learner, counters, record)
        if self.processes.first:
            save_run_state(path, state)
            write_json(self.path / HISTORY_FILE, counters.history)
        return path

    def load(self, learner: Learner, record: Mapping[str, Any], path: Path | None = None) -> Counters:
        """Put a checkpoint into a learner and return its counters.

        Args:
            record: of the run that would go on.
            path: a file, or another run's folder; None for this one.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is damaged, or of a run with other options, processes or data; all differences are named.
        """
        path = Path(path or self.path)
        path = path / STATE_FILE if path.is_dir() else path
        state = load_run_state(path)
        changed = differences(state.values["record"], record)
        if changed:
            raise ValueError(
                f"{path} is of another run; start anew in another folder, or resume with what it was begun "
                "with:\n  " + "\n  ".join(changed)
            )
        return restore(state, learner)

    def load_moments(self, learner: Learner, path: Path) -> None:
        """Put the optimiser's moments of another run's folder into a learner.

        Raises:
            FileNotFoundError: it has no checkpoint.
            ValueError: it is damaged, or of other parameters.
        """
        state = load_run_state(Path(path) / STATE_FILE)
        try:
            restore_moments(state, learner)
        except ValueError as error:
            raise ValueError(f"{path} has no moments for this run: {error}; move it away to begin without") from error

    def result(self, counters: Counters) -> TrainResult:
        """Return how the run ended, or stands."""
        rows = [row for row in counters.history if row["epoch"] == counters.best_epoch]
        return TrainResult(
            best=self.best,
            last=self.last,
            metrics=dict(rows[0]["validation"]) if rows else {},
            epochs=counters.epoch,
            steps=counters.step,
            stopped_early=counters.stopped_early,
            interrupted=not counters.finished,
        )
