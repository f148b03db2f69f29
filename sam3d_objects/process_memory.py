"""How much main memory this process holds, and the most that it held, as Linux tells."""

from contextlib import suppress
from pathlib import Path

_STATUS, _CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_CLOSE = 1.02  # An earlier peak within 2 % of what the process holds is as good as forgotten.


class MemorySince:
    """The most main memory of the process since this was made.

    Attributes:
        before_bytes: what the process held at first (VmRSS, proc(5)); 0 where the system does not say.
    """

    def __init__(self) -> None:
        with suppress(OSError):  # a system without it, or a container that does not let a process forget its peak
            _CLEAR_REFS.write_text("5")
        self.before_bytes, self._earlier = _now_and_peak()

    def peak_bytes(self) -> int | None:
        """Return the peak; None where the system does not tell.

        It does not where there is no /proc, or where an earlier peak stays on record and was not passed since.
        """
        _, peak = _now_and_peak()
        known = peak > self._earlier or self._earlier <= self.before_bytes * _CLOSE
        return peak if peak and known else None


def _now_and_peak() -> tuple[int, int]:
    """The process's size in main memory, bytes: now (VmRSS) and at most (VmHWM); 0 where the system does not say."""
    lines = _STATUS.read_text(encoding="utf-8").splitlines() if _STATUS.exists() else []
    sizes = {name: value for name, _, value in (line.partition(":") for line in lines)}
    now, peak = (int(sizes.get(name, "0 kB").split()[0]) * 1024 for name in ("VmRSS", "VmHWM"))
    return now, peak
