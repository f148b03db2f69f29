"""Progress with the time left: a bar on a terminal, plain lines elsewhere."""

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

_SECONDS_BETWEEN_LINES = 30.0
_FIRST_ESTIMATE_BATCHES = 5


def readable_time(seconds: float) -> str:
    """Return ``45 s``, ``12 min`` or ``3 h 20 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


class TrainingProgress:
    """Shows how many of the run's batches are done, the loss, and the time left at the pace of this process.

    Args:
        console: where to write; a bar is drawn only where it is a terminal.
        total: batches in the whole run; done: those that an earlier process did.
    """

    def __init__(self, console: Console, total: int, done: int) -> None:
        self.console, self.total, self.done, self.first = console, total, done, done
        self._began = self._last_line = time.monotonic()
        columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.fields[info]}"))
        self._bar = Progress(*columns, console=console, transient=True) if console.is_terminal else None
        self._task = self._bar.add_task("training", total=total, completed=done, info="") if self._bar else None

    def __enter__(self) -> "TrainingProgress":
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    @property
    def seconds_left(self) -> float:
        """Seconds until the last batch at the mean pace of this process; NaN before the first batch."""
        here = self.done - self.first
        spent = time.monotonic() - self._began
        return spent / here * (self.total - self.done) if here else float("nan")

    def advance(self, epoch: int, loss: float) -> None:
        """Count one batch."""
        self.done += 1
        info = f"epoch {epoch + 1}, loss {loss:.4f}, {readable_time(self.seconds_left)} left at most"
        if self._bar and self._task is not None:
            self._bar.update(self._task, completed=self.done, info=info)
            return
        now = time.monotonic()
        first_estimate = self.done - self.first == _FIRST_ESTIMATE_BATCHES
        if first_estimate or now - self._last_line > _SECONDS_BETWEEN_LINES:
            self._last_line = now
            self.say(f"batch {self.done} of {self.total}: {info}")

    def say(self, text: str) -> None:
        """Print a line that stays; square brackets are text, not markup."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)
