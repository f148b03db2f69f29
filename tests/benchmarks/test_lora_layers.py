"""The benchmark of LoRA's layers, run on a narrow block: the ways agree, and the verdict is by the numbers."""

import pytest
import torch

from benchmarks.lora_layers import WAYS, build, measure_times, step_of, verdict


def test_all_ways_start_alike_and_ours_has_pefts_gradients() -> None:
    pytest.importorskip("peft", reason="PEFT is not installed (pip install peft)")
    device = torch.device("cpu")
    found = measure_times(32, tokens=5, rank=2, rounds=2, device=device, autocast=False)
    assert set(found) == set(WAYS) and all(len(values) == 2 for values in found.values())
    sizes: dict[str, list[float]] = {}
    for way in WAYS[1:]:
        model = build(way, 32, 2, device)
        step_of(model, 32, 5, device, False)()
        sizes[way] = sorted(float(p.grad.norm()) for p in model.parameters() if p.grad is not None and p.grad.any())
    assert len(sizes["ours"]) == len(sizes["peft"]) > 10
    assert sizes["ours"] == pytest.approx(sizes["peft"], rel=1e-3)


def test_the_verdict_takes_time_memory_and_overhead() -> None:
    seconds = {"frozen": [1.0, 1.2, 1.0], "ours": [1.1, 1.3, 1.1], "peft": [1.3, 1.5, 1.3]}
    memory = {"frozen": 10, "ours": 12, "peft": 12}
    assert verdict(seconds, memory)
    assert not verdict(seconds, {**memory, "ours": 13})
    assert not verdict({**seconds, "ours": [1.2, 1.4, 1.2]}, memory)
