"""Peak memory of a prediction."""

from __future__ import annotations

import sys
from types import ModuleType

from sam3d_objects.process_memory import MemorySince

_MIB = 2**20


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
        self._process = MemorySince()
        return self

    def __exit__(self, *_: object) -> None:
        peak = self._process.peak_bytes()
        self.mib = None if peak is None else peak / _MIB
        if self.mib is not None and (torch := _torch_on_gpu()) is not None:
            self.mib += torch.cuda.max_memory_allocated() / _MIB


def _torch_on_gpu() -> ModuleType | None:
    """The torch module, if it is loaded and uses a GPU: a process without it has nothing there."""
    torch = sys.modules.get("torch")
    return torch if torch is not None and torch.cuda.is_initialized() else None
