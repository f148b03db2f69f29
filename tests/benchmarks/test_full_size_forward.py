"""The benchmark of the full-size flows, run on small configs with the release's layout."""

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from benchmarks.full_size_forward import random_network, shell
from sam3d_objects.model.sparse import SparseGrid

REPOSITORY = Path(__file__).resolve().parents[2]
WIDTH = 48


def shrunk(node: Any) -> Any:
    """The released config with two narrow blocks; conditions keep their width."""
    if isinstance(node, dict):
        small = {"model_channels": WIDTH, "num_blocks": 2, "num_heads": 2, "io_block_channels": [16]}
        return {key: small.get(key, shrunk(value)) for key, value in node.items()}
    return [shrunk(value) for value in node] if isinstance(node, list) else copy.deepcopy(node)


@pytest.fixture
def configs(shared_reference: Path, tmp_path: Path) -> Path:
    for name in ("ss_generator.yaml", "slat_generator.yaml"):
        released = yaml.safe_load((shared_reference / "release_configs" / name).read_text(encoding="utf-8"))
        (tmp_path / name).write_text(yaml.safe_dump(shrunk(released)), encoding="utf-8")
    return tmp_path


def test_the_shell_has_about_ten_thousand_voxels() -> None:
    assert 9_000 < len(shell(24.0)) < 11_000
    assert len(SparseGrid(shell(3.0))) == len(shell(3.0))


def test_weights_are_random_and_finite(configs: Path) -> None:
    network = random_network(configs / "slat_generator.yaml", torch.bfloat16)
    for name, value in network.state_dict().items():
        assert value.dtype == torch.bfloat16 and value.isfinite().all() and value.any(), name


def test_it_prints_both_flows(configs: Path) -> None:
    script = REPOSITORY / "benchmarks" / "full_size_forward.py"
    command = [sys.executable, str(script), str(configs), "--dtype", "fp32", "--radius", "4"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    rows = {line[0]: line for line in lines if line[0] in ("structure", "latent")}
    assert rows["structure"][3] == "4,100" and int(rows["latent"][3]) == len(shell(4.0))
    assert "within 16 GiB" in done.stdout.splitlines()[-1]
