"""Peak memory of a training step of the full-size structure flow: estimated, and a quarter of it measured on the CPU.

    python benchmarks/training_memory.py CONFIGS [--device cuda] [--base bf16] [--blocks 6]
    python benchmarks/training_memory.py CONFIGS --rank 16 --mlp --rows 4   # as configs/release.yaml

CONFIGS is the released folder, of which the YAML files are enough. The step is LoRA of rank 4, batch 1, unless other
numbers are given, with every condition token of the release. The full size (24 blocks) is followed over shapes and
never allocated for it. A network of full width and random weights then makes one real step in a process of its own:
with all blocks on a GPU, with 6 of them on a CPU. Compared is what lives beside the weights, for the weights
themselves are no estimate: the process's peak less what it had with its weights loaded, against its own estimate. On
a CPU the allocator returns freed blocks to the system at once (MALLOC_MMAP_THRESHOLD_), or what it keeps for later
would count as used. Exit code 1: more than 15 % apart, or the whole trained stage (the flow, and the frozen networks
beside it in fp32) does not fit 24 GB.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
import yaml
from torch import Tensor, nn

from sam3d_objects.model.checkpointing import checkpoint_blocks
from sam3d_objects.model.flow_matching import flow_matching_loss, noise_like
from sam3d_objects.model.generator import FlowGenerator
from sam3d_objects.model.instantiate import instantiate
from sam3d_objects.model.lora import DEFAULT_TARGETS, MLP_TARGETS, inject_lora
from sam3d_objects.model.quantised import frozen_base
from sam3d_objects.model.structure.flow import StructureFlow
from sam3d_objects.model.structure.latent import Latent
from sam3d_objects.model.weights import ENCODER_CONFIG
from sam3d_objects.training.memory import GIB, MemoryEstimate, StepMemory, readable_bytes

CONDITION_TOKENS, CONDITION_WIDTH = 4 * 1370 + 2 * 1024, 1024  # four images and two pointmaps of the release
BUDGET_BYTES = 24e9
TOLERANCE = 0.15
BASES = ("bf16", "fp32")


@dataclass(frozen=True)
class Asked:
    """What is trained: the rank of LoRA, whether in the feed-forward layers too, and rows (batch times draws)."""

    rank: int = 4
    mlp: bool = False
    rows: int = 1


def read(folder: Path, name: str) -> Any:
    """Read one released config."""
    return yaml.safe_load((folder / f"{name}.yaml").read_text(encoding="utf-8"))


def flow(
    folder: Path, blocks: int | None, base: str, checkpointed: bool, asked: Asked | None = None
) -> StructureFlow:
    """The adapted structure flow on the meta device; `blocks` None is its full depth."""
    node = read(folder, "ss_generator")["module"]["generator"]["backbone"]
    if blocks is not None:
        node["reverse_fn"]["backbone"]["num_blocks"] = blocks
    with torch.device("meta"):
        generator = instantiate(node)
    assert isinstance(generator, FlowGenerator)
    network = generator.reverse_fn.backbone
    assert isinstance(network, StructureFlow)
    frozen_base(network, base)
    asked = asked or Asked()
    inject_lora(network, (*DEFAULT_TARGETS, *(MLP_TARGETS if asked.mlp else ())), rank=asked.rank)
    if checkpointed:
        checkpoint_blocks(network)
    return network


def loss_of_rows(
    flow: StructureFlow, base: str, device: torch.device, rows: int = 1
) -> Callable[[nn.Module], Tensor]:
    """The stage's loss of some rows on the device, in mixed precision where the base is in bf16."""
    generator = torch.Generator().manual_seed(0)
    tokens = {name: len(cast(Latent, flow.latent_mapping[name]).pos_emb) for name in flow.latent_names}
    latents = {
        name: torch.randn(rows, tokens[name], width, generator=generator).to(device)
        for name, width in flow.latent_widths.items()
    }
    noise = noise_like(latents, generator)
    condition = torch.randn(rows, CONDITION_TOKENS, CONDITION_WIDTH, generator=generator).to(device)
    t = torch.full((rows,), 0.5, device=device)

    def loss(network: nn.Module) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=base == "bf16"):
            return flow_matching_loss(network, latents, condition, t, noise)[0]

    return loss


def estimate(network: StructureFlow, base: str, device: torch.device, rows: int = 1) -> MemoryEstimate:
    """Follow one step of a flow."""
    return StepMemory(network, device).estimate(loss_of_rows(network, base, device, rows))


def frozen_bytes(folder: Path) -> dict[str, int]:
    """Bytes of the networks that stand frozen beside the flow, in fp32 as they are loaded."""
    nodes = {
        "condition embedder": read(folder, "ss_generator")["module"]["condition_embedder"]["backbone"],
        "structure encoder": ENCODER_CONFIG,
        "structure decoder": read(folder, "ss_decoder"),
    }
    with torch.device("meta"):
        modules = {name: instantiate(node) for name, node in nodes.items()}
    return {name: 4 * sum(p.numel() for p in module.parameters()) for name, module in modules.items()}


def measure(folder: Path, blocks: int, base: str, device: torch.device, asked: Asked) -> dict[str, float]:
    """Estimate, then make one real step in this process; bytes beside the weights."""
    network = flow(folder, blocks, base, True, asked)
    expected = estimate(network, base, device, asked.rows)
    network.to_empty(device=device)
    for tensor in network.state_dict().values():
        tensor.normal_(std=tensor[0].numel() ** -0.5 if tensor.ndim > 1 else 0.02)  # a layer keeps the size
    loss = loss_of_rows(network.train(), base, device, asked.rows)
    optimizer = torch.optim.AdamW(p for p in network.parameters() if p.requires_grad)
    memory = StepMemory(network, device)
    memory.begin()
    began = time.perf_counter()
    loss(network).backward()
    optimizer.step()
    used = memory.used()  # asks a GPU's allocator, whose peak needs no waiting for the kernels
    if used is None:
        raise SystemExit("this system does not tell a process its peak memory: run it on Linux")
    return {
        "parameters": expected.parameters,
        "estimated": expected.peak - expected.parameters,
        "used": used - expected.parameters,
        "numbers": expected.numbers,
        "seconds": time.perf_counter() - began,
    }


def print_full_size(folder: Path, device: torch.device, asked: Asked) -> bool:
    """Print the estimates of the full depth, and whether the whole stage fits."""
    where = "attention and feed-forward layers" if asked.mlp else "attention"
    print(f"full size, LoRA rank {asked.rank} in {where}, {asked.rows} rows: what lives at once")
    print(f"{'base':8}{'checkpointed':14}{'weights':>10}{'activations':>14}{'peak':>10}  GiB")
    for base in BASES:
        for checkpointed in (True, False):
            found = estimate(flow(folder, None, base, checkpointed, asked), base, device, asked.rows)
            sizes = found.parameters / GIB, found.activations / GIB, found.peak / GIB
            line = f"{base:8}{'yes' if checkpointed else 'no':14}{sizes[0]:>10.2f}{sizes[1]:>14.2f}{sizes[2]:>10.2f}"
            print(line, flush=True)
            if (base, checkpointed) == ("bf16", True):
                chosen = found
    print(chosen.describe())
    frozen = frozen_bytes(folder)
    for name, size in frozen.items():
        print(f"  beside it, frozen in fp32: {name}, {readable_bytes(size)}")
    whole = chosen.peak + sum(frozen.values())
    fits = whole <= BUDGET_BYTES
    print(f"  the whole trained stage: {whole / 1e9:.1f} GB, {'within' if fits else 'NOT within'} 24 GB")
    return fits


def print_measured(folder: Path, blocks: int, base: str, device: torch.device, asked: Asked) -> bool:
    """Measure the flow of some blocks in a fresh process and print how far its estimate was off."""
    options = ["--blocks", str(blocks), "--base", base, "--device", device.type, "--measure"]
    options += ["--rank", str(asked.rank), "--rows", str(asked.rows), *(["--mlp"] if asked.mlp else [])]
    # Blocks above this size are mapped and unmapped one by one; glibc raises the threshold by itself otherwise.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    command = [sys.executable, __file__, str(folder), *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True, env=environment)
    found: dict[str, float] = json.loads(done.stdout)
    off = found["estimated"] / found["used"] - 1
    weights, estimated, used = (found[name] / GIB for name in ("parameters", "estimated", "used"))
    print(
        f"one real step on {device.type}: {blocks} blocks, {base}, {found['numbers'] / 1e6:.1f} M numbers, weights "
        f"{weights:.2f} GiB; {found['seconds']:.0f} s, {torch.get_num_threads()} threads\n"
        f"beside the weights {estimated:.3f} GiB estimated, {used:.3f} GiB measured: estimate {off:+.1%}"
    )
    return abs(off) <= TOLERANCE


def main() -> int:
    """Print the full-size estimates and the measured step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", type=Path, help="folder with ss_generator.yaml and ss_decoder.yaml")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where the step is (default cpu)")
    parser.add_argument("--base", choices=BASES, help="of the measured network (default: fp32 on a CPU, else bf16)")
    parser.add_argument("--blocks", type=int, help="of the measured network (default: 6 on a CPU, else 24)")
    parser.add_argument("--rank", type=int, default=4, help="of LoRA (default 4)")
    parser.add_argument("--mlp", action="store_true", help="LoRA in the feed-forward layers as well")
    parser.add_argument("--rows", type=int, default=1, help="batch size times draws (default 1)")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    device, on_cpu = torch.device(given.device), given.device == "cpu"
    blocks, base = given.blocks or (6 if on_cpu else 24), given.base or ("fp32" if on_cpu else "bf16")
    asked = Asked(given.rank, given.mlp, given.rows)
    if given.measure:
        print(json.dumps(measure(given.configs, blocks, base, device, asked)))
        return 0
    fits = print_full_size(given.configs, device, asked)
    close = print_measured(given.configs, blocks, base, device, asked)
    print(f"{'within' if close else 'NOT within'} {TOLERANCE:.0%} of what was measured")
    return 0 if fits and close else 1


if __name__ == "__main__":
    sys.exit(main())
