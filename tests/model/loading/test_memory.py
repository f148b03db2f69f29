"""A base model loads one file at a time: peak memory is the model's and one file's, not all files'."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.model.release_folder import write_release

MIB = 1 << 20
SLACK = 12 * MIB
CODE = """
import resource, sys, torch
from sam3d_objects.model import load_model
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
model = load_model(sys.argv[1], dtype=torch.bfloat16)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print((after - before) * 1024, sum(value.nbytes for value in model.state_dict().values()))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in other units elsewhere")
def test_peak_memory_is_about_one_file(tmp_path: Path) -> None:
    write_release(tmp_path, width=384)
    files = [path.stat().st_size for path in tmp_path.glob("*.ckpt")]
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(tmp_path)], capture_output=True, text=True, check=True, timeout=100
    )
    peak, kept = map(int, done.stdout.split())
    assert kept + max(files) + SLACK < kept + 0.95 * sum(files), "the files are big enough to tell"
    assert peak <= kept + max(files) + SLACK
