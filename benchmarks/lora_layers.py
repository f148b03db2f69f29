"""What LoRA costs in a training step: a block of the structure flow's size, frozen, with our layers and with PEFT's.

    python benchmarks/lora_layers.py [--tokens 1024] [--rank 4] [--rounds 9] [--device cuda] [--autocast]

The block is that of the released structure flow: width 1024, 16 heads, MLP of four times the width, two streams, here
with fewer tokens than the release's 4096. Adapted are all projections of attention and both layers of the MLP, 14 in
all. PEFT is used as its manual says (`get_peft_model`), without dropout; base weights, A (B is zero), inputs and rank
are the same for all, and so is the first loss, which is checked. A step clears the gradients and goes forward and
backward, with gradients for the block's input and condition, so that the frozen block goes back through the same
operations and what is left is the price of the adapters. No optimizer: its cost would be the same.

All three take turns in one run, in an order that is drawn anew for each round; rounds before the timed ones warm up.
Times are medians of the rounds. An overhead is the median, over the rounds, of a step less the frozen step of the same
round, and is printed with its quartiles: it is a small difference of large numbers, and needs more rounds on a busy
machine. Memory is measured in a process of its own for each: the peak of one step above what it held before.

Exit code 1: slower than PEFT, more memory, or more than half of PEFT's overhead. PEFT must be installed (pip install
peft).
"""

import argparse
import copy
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from sam3d_objects.model.lora import DEFAULT_TARGETS, MLP_TARGETS, inject_lora, lora_layers
from sam3d_objects.model.structure.flow import StreamBlock
from sam3d_objects.process_memory import MemorySince

WAYS = ("frozen", "ours", "peft")
WARM_UP = 2  # rounds
STREAMS = ("shape", "6drotation_normalized")
POSE_TOKENS, CONDITION_TOKENS, HEADS, MLP_RATIO = 4, 257, 16, 4.0
MIB = 2**20


class Block(nn.Module):
    """A block with the paths that it has in the flow, so that the flow's own targets find its layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([StreamBlock(STREAMS, width, width, HEADS, MLP_RATIO, True)])

    def forward(self, x: dict[str, Tensor], time: Tensor, condition: Tensor) -> dict[str, Tensor]:
        """Map each stream (B, T, C) to (B, T, C)."""
        out: dict[str, Tensor] = self.blocks[0](x, time, condition)
        return out


def build(way: str, width: int, rank: int, device: torch.device) -> nn.Module:
    """Return the block, frozen, and adapted in one of the two ways, with the same weights in all."""
    torch.manual_seed(0)
    block = Block(width).requires_grad_(False)
    for parameter in block.parameters():  # Some start as zeros, through which nothing would be seen.
        parameter.normal_(std=parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.02)
    adapted = copy.deepcopy(block)
    inject_lora(adapted, (*DEFAULT_TARGETS, *MLP_TARGETS), rank=rank, alpha=float(rank), seed=0)
    if way == "frozen":
        return block.to(device)
    if way == "ours":
        return adapted.to(device)
    import peft  # Needed for this one way only.

    layers = lora_layers(adapted)
    config = peft.LoraConfig(r=rank, lora_alpha=rank, target_modules=list(layers))
    other: nn.Module = peft.get_peft_model(block, config)
    names = dict(other.named_parameters())
    with torch.no_grad():
        for path, layer in layers.items():
            names[f"base_model.model.{path}.lora_A.default.weight"].copy_(layer.lora_A)
    return other.to(device)


def step_of(model: nn.Module, width: int, tokens: int, device: torch.device, autocast: bool) -> Callable[[], float]:
    """Return a training step of the block, which returns its loss."""
    generator = torch.Generator().manual_seed(1)
    sizes = {STREAMS[0]: tokens, STREAMS[1]: POSE_TOKENS}
    x = {name: torch.randn(1, size, width, generator=generator).to(device) for name, size in sizes.items()}
    time_embedding = torch.randn(1, width, generator=generator).to(device)
    condition = torch.randn(1, CONDITION_TOKENS, width, generator=generator).to(device)
    inputs = [*x.values(), condition]
    for value in inputs:
        value.requires_grad_(True)

    def step() -> float:
        model.zero_grad()
        for value in inputs:
            value.grad = None
        with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
            out = model(x, time_embedding, condition)
        loss = torch.stack([value.float().square().mean() for value in out.values()]).sum()
        loss.backward()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return float(loss.detach())

    return step


def measure_times(
    width: int, tokens: int, rank: int, rounds: int, device: torch.device, autocast: bool
) -> dict[str, list[float]]:
    """Return the seconds of each round by way, after `WARM_UP` that do not count.

    On a CPU these are seconds of processor time, which other processes on the machine disturb less.
    """
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    steps = {way: step_of(build(way, width, rank, device), width, tokens, device, autocast) for way in WAYS}
    losses = {way: step() for way, step in steps.items()}
    # Fresh adapters: all three compute the same.
    assert max(losses.values()) - min(losses.values()) <= 1e-5 * max(losses.values()) or autocast, losses
    order = list(WAYS)
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for turn in range(1 - WARM_UP, rounds):  # The losses above were one of the warm-up.
        random.Random(turn).shuffle(order)
        for way in order:
            began = clock()
            steps[way]()
            seconds[way].append(clock() - began)
    return {way: values[WARM_UP - 1 :] for way, values in seconds.items()}


def measure_memory(way: str, width: int, tokens: int, rank: int, device: torch.device, autocast: bool) -> int:
    """Return the bytes that the second step needs above what is held before it, in this process."""
    step = step_of(build(way, width, rank, device), width, tokens, device, autocast)
    step()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return torch.cuda.max_memory_allocated() - before
    process = MemorySince()
    step()
    growth = process.growth_bytes()
    if growth is None:
        raise SystemExit("this system does not tell what memory a process took, or does not forget its earlier peak")
    return growth


def memory_of_each(arguments: list[str]) -> dict[str, int]:
    """Return the bytes of a step by way, each measured in a process of its own."""
    # Blocks above this size are mapped and unmapped one by one; glibc raises the threshold by itself otherwise.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    found = {}
    for way in WAYS:
        command = [sys.executable, __file__, *arguments, "--memory_of", way]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True, env=environment)
        found[way] = int(json.loads(done.stdout))
    return found


def verdict(seconds: dict[str, list[float]], memory: dict[str, int]) -> bool:
    """Print times, memory and ratios; return whether ours is as cheap as it has to be."""
    median = {way: statistics.median(values) for way, values in seconds.items()}
    # Paired: what each way took above the frozen block in the same round, where the machine was as busy.
    more = {way: [a - b for a, b in zip(seconds[way], seconds["frozen"], strict=True)] for way in WAYS[1:]}
    over = {way: statistics.median(values) for way, values in more.items()}
    for way in WAYS:
        extra = ""
        if way in over:
            low, _, high = (1000 * quartile for quartile in statistics.quantiles(more[way], n=4, method="inclusive"))
            extra = f"  overhead {1000 * over[way]:8.1f} ms (quartiles {low:.1f} to {high:.1f})"
        print(f"{way:7} step {1000 * median[way]:9.1f} ms  peak {memory[way] / MIB:8.1f} MiB{extra}")
    ratio, shares = over["ours"] / over["peft"], median["ours"] / median["peft"]
    print(f"ours / PEFT: time {shares:.3f}, overhead {ratio:.2f}, memory {memory['ours'] / memory['peft']:.3f}")
    return shares < 1 and ratio <= 0.5 and memory["ours"] <= memory["peft"]


def main() -> int:
    """Measure and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=1024, help="of the block (default 1024)")
    parser.add_argument("--tokens", type=int, default=1024, help="of the shape stream (default 1024)")
    parser.add_argument("--rank", type=int, default=4, help="of all adapters (default 4)")
    parser.add_argument("--rounds", type=int, default=9, help="timed steps of each way, 2 or more (default 9)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where (default cpu)")
    parser.add_argument("--autocast", action="store_true", help="in bfloat16 by autocast")
    parser.add_argument("--memory_of", choices=WAYS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.rounds < 2:
        parser.error("--rounds: 2 or more, for the quartiles")
    device = torch.device(given.device)
    sizes = (given.width, given.tokens, given.rank)
    if given.memory_of:
        print(json.dumps(measure_memory(given.memory_of, *sizes, device, given.autocast)))
        return 0
    seconds = measure_times(*sizes, given.rounds, device, given.autocast)
    good = verdict(seconds, memory_of_each(sys.argv[1:]))
    print("cheap enough" if good else "NOT cheap enough")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
