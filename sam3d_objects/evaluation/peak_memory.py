"""Peak memory of a prediction."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from types import ModuleType

_STATUS, _CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_MIB = 2**20
_CLOSE = 1.02  # An earlier peak within 2 % of what the process holds is as good as forgotten.


class PeakMemory:
    """The most memory that was held while a block ran: `with PeakMemory() as peak: ...`, then `peak.mib`.

    It is what the work needs to fit, not what it adds: the largest resident size of the whole process (program, loaded
    models, work), plus, where torch has a GPU, the most that it had allocated there. None where the system does not
    tell: it has no /proc, or, as in some containers, the block stayed below an earlier peak that is not forgotten.
    """

    mib: float | None = None

    def __enter__(self) -> PeakMemory:
        if (torch := _torch_on_gpu()) is not None:
            torch.cuda.reset_peak_memory_stats()
        with suppress(OSError):
            _CLEAR_REFS.write_text("5")  # proc(5): resets VmHWM to the current size
        sizes = _sizes_mib()
        self._earlier, self._forgotten = sizes["VmHWM"], sizes["VmHWM"] <= sizes["VmRSS"] * _CLOSE
        return self

    def __exit__(self, *_: object) -> None:
        peak = _sizes_mib()["VmHWM"]
        self.mib = peak if peak > self._earlier or (self._forgotten and peak > 0) else None
        if self.mib is not None and (torch := _torch_on_gpu()) is not None:
            self.mib += torch.cuda.max_memory_allocated() / _MIB


def _sizes_mib() -> dict[str, float]:
    """The process's size in main memory, MiB: now (VmRSS) and at most (VmHWM); 0 where the system does not say."""
    lines = _STATUS.read_text(encoding="utf-8").splitlines() if _STATUS.exists() else []
    sizes = {name: value for name, _, value in (line.partition(":") for line in lines)}
    return {name: int(sizes.get(name, "0 kB").split()[0]) / 1024 for name in ("VmRSS", "VmHWM")}


def _torch_on_gpu() -> ModuleType | None:
    """The torch module, if it is loaded and uses a GPU: a process without it has nothing there."""
    torch = sys.modules.get("torch")
    return torch if torch is not None and torch.cuda.is_initialized() else None
