"""How much main memory this process holds, and the most that it held, as Linux tells."""

from contextlib import suppress
from pathlib import Path

_STATUS, _CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_CLOSE = 1.02  # An earlier peak within 2 % of what the process holds is as good as forgotten.


class MemorySince:
    """What main memory the process took since this was made.

    Neither answer is known where there is no /proc, or where an earlier peak stays on record and was not passed since.
    """

    def __init__(self) -> None:
        with suppress(OSError):  # a system without it, or a container that does not let a process forget its peak
            _CLEAR_REFS.write_text("5")
        self._before, self._earlier = _now_and_peak()

    def peak_bytes(self) -> int | None:
        """Return the most that the process held (VmHWM, proc(5)); None where that is not known."""
        _, peak = _now_and_peak()
        known = peak > self._earlier or self._earlier <= self._before * _CLOSE
        return peak if peak and known else None

    def growth_bytes(self) -> int | None:
        """Return by how much the process grew at most; None where that is not known.

        Nor is it where nothing grew: pages that were free already are taken without a trace.
        """
        _, peak = _now_and_peak()
        return peak - self._before if peak > self._earlier else None


def _now_and_peak() -> tuple[int, int]:
    """The process's size in main memory, bytes: now (VmRSS) and at most (VmHWM); 0 where the system does not say."""
    lines = _STATUS.read_text(encoding="utf-8").splitlines() if _STATUS.exists() else []
    sizes = {name: value for name, _, value in (line.partition(":") for line in lines)}
    now, peak = (int(sizes.get(name, "0 kB").split()[0]) * 1024 for name in ("VmRSS", "VmHWM"))
    return now, peak
