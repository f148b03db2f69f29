"""What memory a block took, also where the system remembers an earlier peak."""

import subprocess
import sys
from pathlib import Path

import pytest

from sam3d_objects.evaluation import peak_memory
from sam3d_objects.evaluation.peak_memory import PeakMemory

_MEASURED = """
import numpy as np
from sam3d_objects.evaluation.peak_memory import PeakMemory, _sizes_mib
before = _sizes_mib()
mib = int(before["VmHWM"] - before["VmRSS"]) + 64  # Higher than whatever the start took, were that not forgotten.
with PeakMemory() as peak:
    np.ones(mib * 2**17)
print(peak.mib - before["VmRSS"] - mib)
"""
_STATUS = "Name:\tpython\nVmHWM:\t{peak} kB\nVmRSS:\t{now} kB\n"


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells a process its peak")
def test_the_peak_is_what_was_held() -> None:
    # In a process of its own: nothing else allocates meanwhile.
    off = float(subprocess.run([sys.executable, "-c", _MEASURED], capture_output=True, text=True, check=True).stdout)
    assert abs(off) < 8


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        ((100, 100), (100, 100), 100),  # forgotten, and nothing taken
        ((100, 100), (164, 100), 164),
        ((300, 100), (300, 100), None),  # the earlier peak stands: the block's may be anything up to it
        ((300, 100), (310, 100), 310),
    ],
)
def test_an_earlier_peak_that_stands_is_not_the_blocks(
    before: tuple[int, int], after: tuple[int, int], found: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = tmp_path / "status"
    monkeypatch.setattr(peak_memory, "_STATUS", status)
    monkeypatch.setattr(peak_memory, "_CLEAR_REFS", tmp_path / "no folder" / "clear_refs")
    status.write_text(_STATUS.format(peak=before[0] * 1024, now=before[1] * 1024))
    with PeakMemory() as peak:
        status.write_text(_STATUS.format(peak=after[0] * 1024, now=after[1] * 1024))
    assert peak.mib == found


def test_a_system_that_tells_nothing_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peak_memory, "_STATUS", tmp_path / "none")
    with PeakMemory() as peak:
        pass
    assert peak.mib is None
