"""What a run tells people while it goes on: lines, a progress bar with the time left, TensorBoard scalars."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from sam3d_objects.training.journal import Scalars
from sam3d_objects.training.progress import TrainingProgress
from sam3d_objects.training.validated import Picture


class RunLog:
    """Writes to a console and, while open, to TensorBoard and the progress bar.

    Args:
        console: for people.
        silent: write nothing at all: another process does.
    """

    def __init__(self, console: Console, silent: bool = False) -> None:
        self.silent = silent
        self.console = Console(quiet=True) if silent else console
        self._scalars: Scalars | None = None
        self._progress: TrainingProgress | None = None

    @contextmanager
    def open(self, run_dir: Path, step: int, done: int, total: int) -> Iterator[None]:
        """Show progress over `total` batches, of which `done` are done, and write scalars from `step` on."""
        if self.silent:
            yield
            return
        self._scalars = Scalars(run_dir, step)
        try:
            with TrainingProgress(self.console, total, done) as self._progress:
                yield
        finally:
            self._scalars.close()
            self._scalars, self._progress = None, None

    def say(self, text: str) -> None:
        """Print a line; square brackets are text, not markup."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def batch(self, epoch: int, loss: float) -> None:
        """Count one batch of an epoch (from 0)."""
        if self._progress:
            self._progress.advance(epoch, loss)

    def scalars(self, group: str, values: Mapping[str, float], step: int) -> None:
        """Add TensorBoard scalars `group/name`."""
        if self._scalars:
            self._scalars.add(group, values, step)

    def pictures(self, pictures: Mapping[str, Picture], step: int) -> None:
        """Add TensorBoard pictures `validation/name`."""
        if self._scalars:
            self._scalars.add_pictures("validation", pictures, step)

    def epoch(self, row: Mapping[str, Any], epochs: int, best: bool) -> None:
        """Report one row of the history."""
        validation = row.get("validation", {})
        self.scalars("epoch", row["train"], row["step"])
        self.scalars("validation", validation, row["step"])
        # The parts of the loss are in history.json and TensorBoard.
        parts = row["train"].keys() - {"loss"}
        shown = {"loss": row["train"]["loss"]}
        shown |= {f"validation {name}": x for name, x in validation.items() if name not in parts}
        text = ", ".join(f"{name} {value:.4f}" for name, value in shown.items())
        self.say(f"epoch {row['epoch']} of {epochs}: {text}{' (best)' if best else ''}")
