"""The benchmark of training steps a second, one round of what needs no compiler."""

import sys
from pathlib import Path

import pytest

from benchmarks import training_throughput
from benchmarks.training_throughput import VARIANTS, main, phantom_data


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return phantom_data(tmp_path_factory.mktemp("phantoms"))


def test_it_prints_a_line_a_variant(
    phantoms: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = [variant for variant in VARIANTS if not variant.compiled]
    assert [variant.name for variant in chosen] == ["plain", "cached tokens", "checkpointing"]
    monkeypatch.setattr(training_throughput, "VARIANTS", chosen)
    monkeypatch.setattr(sys, "argv", ["training_throughput.py", "--data_root", str(phantoms), "--rounds", "1"])
    assert main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("cpu, ") and lines[0].endswith("batch 4")
    assert [line[:18].strip() for line in lines[2:]] == [variant.name for variant in chosen]
    first_s, step_s, rate, ratio = map(float, lines[2].split()[1:])
    assert ratio == 1 and first_s > 0 and rate == pytest.approx(1 / step_s, rel=0.05)
