"""What memory a process took, also where the system remembers an earlier peak."""

import subprocess
import sys
from pathlib import Path

import pytest

from sam3d_objects import process_memory
from sam3d_objects.process_memory import MemorySince

MIB = 2**20
_MEASURED = """
import numpy as np
from sam3d_objects.process_memory import MemorySince, _now_and_peak
now, peak = _now_and_peak()
taken = peak - now + 64 * 2**20  # Higher than whatever the start took, were that not forgotten.
memory = MemorySince()
np.ones(taken // 8)
print(memory.peak_bytes() - now - taken, memory.growth_bytes() - taken)
"""
_TOLD = "Name:\tpython\nVmHWM:\t{peak} kB\nVmRSS:\t{now} kB\n"


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells a process its peak")
def test_the_peak_is_what_was_held() -> None:
    # In a process of its own: nothing else allocates meanwhile.
    said = subprocess.run([sys.executable, "-c", _MEASURED], capture_output=True, text=True, check=True).stdout
    assert len(said.split()) == 2 and all(abs(int(off)) < 8 * MIB for off in said.split())


@pytest.mark.parametrize(
    ("before", "after", "found", "growth"),
    [
        ((100, 100), (100, 100), 100, None),  # forgotten, and nothing taken
        ((100, 100), (164, 100), 164, 64),
        ((300, 100), (300, 100), None, None),  # the earlier peak stands: the later one may be anything up to it
        ((300, 100), (310, 100), 310, 210),
    ],
    ids=["nothing taken", "grown", "below an earlier peak", "above an earlier peak"],
)
def test_an_earlier_peak_that_stands_does_not_count(
    before: tuple[int, int],
    after: tuple[int, int],
    found: int | None,
    growth: int | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def says(sizes_mib: tuple[int, int]) -> None:
        status.write_text(_TOLD.format(peak=sizes_mib[0] * 1024, now=sizes_mib[1] * 1024))

    status = tmp_path / "status"
    monkeypatch.setattr(process_memory, "_STATUS", status)
    monkeypatch.setattr(process_memory, "_CLEAR_REFS", tmp_path / "no folder" / "clear_refs")
    says(before)
    memory = MemorySince()
    says(after)
    assert memory.growth_bytes() == (None if growth is None else growth * MIB)
    assert memory.peak_bytes() == (None if found is None else found * MIB)


def test_a_system_that_tells_nothing_gives_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_memory, "_STATUS", tmp_path / "none")
    assert MemorySince().peak_bytes() is None
    assert MemorySince().growth_bytes() is None
