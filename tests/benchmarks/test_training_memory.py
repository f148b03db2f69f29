"""The benchmark of a training step's memory, run on a small config with the release's layout."""

import copy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from benchmarks.training_memory import estimate, flow, frozen_bytes, main

CPU = torch.device("cpu")


def shrunk(node: Any) -> Any:
    """The released config with two narrow blocks on an 8^3 grid; conditions keep their width."""
    if isinstance(node, dict):
        small = {"model_channels": 192, "num_blocks": 2, "num_heads": 2, "resolution": 8}
        return {key: small.get(key, shrunk(value)) for key, value in node.items()}
    return [shrunk(value) for value in node] if isinstance(node, list) else copy.deepcopy(node)


@pytest.fixture
def configs(shared_reference: Path, tmp_path: Path) -> Path:
    for name in ("ss_generator.yaml", "ss_decoder.yaml"):
        released = yaml.safe_load((shared_reference / "release_configs" / name).read_text(encoding="utf-8"))
        (tmp_path / name).write_text(yaml.safe_dump(shrunk(released)), encoding="utf-8")
    return tmp_path


def test_the_flow_is_adapted_and_takes_no_memory(shared_reference: Path) -> None:
    network = flow(shared_reference / "release_configs", None, "bf16", checkpointed=True)
    assert all(parameter.is_meta for parameter in network.parameters())
    frozen = sum(p.numel() for name, p in network.named_parameters() if "lora_" not in name)
    assert round(frozen / 1e6, 1) == 960.0
    trained = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
    assert trained and all("lora_" in name for name in trained)
    # A and B have rank 4; in widths of 1024, in and out: to_qkv 4, to_out 2, and across to_q 2, to_kv 3, to_out 2.
    assert sum(network.get_parameter(name).numel() for name in trained) == 24 * 2 * 4 * 1024 * (4 + 2 + 2 + 3 + 2)


def test_the_networks_beside_it(shared_reference: Path) -> None:
    found = frozen_bytes(shared_reference / "release_configs")
    assert {name: round(size / 4e6, 1) for name, size in found.items()} == {
        "condition embedder": 634.5,
        "structure encoder": 59.3,
        "structure decoder": 73.7,
    }


def test_each_block_keeps_as_much_as_another_and_little_when_checkpointed(configs: Path) -> None:
    one, two, three = (estimate(flow(configs, blocks, "fp32", False), "fp32", CPU).activations for blocks in (1, 2, 3))
    # The first has a little less to keep: its input needs no gradient.
    assert three - two == pytest.approx(two - one, rel=0.02)
    lean = estimate(flow(configs, 3, "fp32", True), "fp32", CPU).activations
    assert lean < one + 0.2 * (two - one)


def test_it_prints_both_and_they_agree(
    configs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["training_memory.py", str(configs), "--blocks", "1"])
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    found = main()
    lines = capsys.readouterr().out.splitlines()
    assert [" ".join(line.split()[:2]) for line in lines[2:6]] == ["bf16 yes", "bf16 no", "fp32 yes", "fp32 no"]
    assert any("within 24 GB" in line for line in lines)
    assert (found, lines[-1]) == (0, "within 15% of what was measured"), lines
