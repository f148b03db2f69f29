"""Peak memory of a prediction."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from types import ModuleType

_STATUS, _CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_MIB = 2**20


class PeakMemory:
    """The most memory that was held while a block ran: `with PeakMemory() as peak: ...`, then `peak.mib`.

    It is what the work needs to fit, not what it adds: the largest resident size of the whole process (program, loaded
    models, work), plus, where torch has a GPU, the most that it had allocated there. None where the system does not
    tell (it has no /proc). Where a process may not forget its earlier peak, that one counts.
    """

    mib: float | None = None

    def __enter__(self) -> PeakMemory:
        if (torch := _torch_on_gpu()) is not None:
            torch.cuda.reset_peak_memory_stats()
        with suppress(OSError):
            _CLEAR_REFS.write_text("5")  # proc(5): resets VmHWM to the current size
        return self

    def __exit__(self, *_: object) -> None:
        if _STATUS.exists():
            lines = _STATUS.read_text(encoding="utf-8").splitlines()
            self.mib = next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")), None)
        if self.mib is not None and (torch := _torch_on_gpu()) is not None:
            self.mib += torch.cuda.max_memory_allocated() / _MIB


def _torch_on_gpu() -> ModuleType | None:
    """The torch module, if it is loaded and uses a GPU: a process without it has nothing there."""
    torch = sys.modules.get("torch")
    return torch if torch is not None and torch.cuda.is_initialized() else None
