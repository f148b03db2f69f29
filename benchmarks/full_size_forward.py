"""One forward of the full-size structure flow and of the full-size latent flow, with random weights, on the CPU.

    python benchmarks/full_size_forward.py CONFIGS [--dtype bf16] [--radius 24]

CONFIGS is the released folder, of which the YAML files are enough. Each flow runs in a process of its own, so that
its peak memory (the largest resident size, weights and interpreter included) is its own. The latent flow gets the
surface voxels of a ball in the release's 64^3 grid; about 10,000 at the default radius.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
import yaml
from torch import Tensor, nn

from sam3d_objects.model.generator import FlowGenerator
from sam3d_objects.model.instantiate import instantiate
from sam3d_objects.model.sparse import SparseGrid, SparseTensor
from sam3d_objects.model.structure.flow import StructureFlow
from sam3d_objects.model.structure.voxels import drop_interior, occupied_coordinates

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
RESOLUTION = 64
CONDITION_WIDTH = 1024
# Condition tokens of the release: four images of 1370 and two pointmaps of 1024, and four images of 1374.
STRUCTURE_TOKENS, LATENT_TOKENS = 4 * 1370 + 2 * 1024, 4 * 1374
BUDGET_GIB = 16.0


def random_network(config: Path, dtype: torch.dtype) -> nn.Module:
    """Build a generator's network from its YAML on the meta device, then with random weights of `dtype`."""
    node: Any = yaml.safe_load(config.read_text(encoding="utf-8"))["module"]["generator"]["backbone"]
    with torch.device("meta"):
        generator = instantiate(node)
    assert isinstance(generator, FlowGenerator)
    network = generator.reverse_fn.backbone.to(dtype).to_empty(device="cpu").eval().requires_grad_(False)
    for tensor in network.state_dict().values():
        # A layer keeps the size of what goes through it.
        tensor.normal_(std=tensor[0].numel() ** -0.5 if tensor.ndim > 1 else 0.02)
    return network


def shell(radius: float) -> Tensor:
    """Surface voxels, int32 (N, 4), of a ball in the middle of the grid."""
    axis = torch.arange(RESOLUTION) + 0.5 - RESOLUTION / 2
    distance = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij")).norm(dim=0)
    return drop_interior(occupied_coordinates((radius - distance)[None, None]))


def structure_call(network: nn.Module, dtype: torch.dtype) -> Callable[[], object]:
    """One call of the structure flow: 4096 shape tokens and four pose tokens."""
    widths = cast(StructureFlow, network).latent_widths
    x = {name: torch.randn(1, 16**3 if name == "shape" else 1, width, dtype=dtype) for name, width in widths.items()}
    condition = torch.randn(1, STRUCTURE_TOKENS, CONDITION_WIDTH, dtype=dtype)
    return lambda: network(x, torch.tensor([500.0]), condition, torch.zeros(1))


def latent_call(network: nn.Module, dtype: torch.dtype, radius: float) -> Callable[[], object]:
    """One call of the latent flow on the shell."""
    grid = SparseGrid(shell(radius))
    x = SparseTensor(torch.randn(len(grid), 8, dtype=dtype), grid)
    condition = torch.randn(1, LATENT_TOKENS, CONDITION_WIDTH, dtype=dtype)
    return lambda: network(x, torch.tensor([500.0]), condition)


@torch.no_grad()
def measure(flow: str, folder: Path, dtype_name: str, radius: float) -> dict[str, str | float]:
    """Build and call one flow in this process and describe it."""
    dtype = DTYPES[dtype_name]
    start = time.perf_counter()
    if flow == "structure":
        network = random_network(folder / "ss_generator.yaml", dtype)
        call, tokens = structure_call(network, dtype), 16**3 + 4
    else:
        network = random_network(folder / "slat_generator.yaml", dtype)
        call, tokens = latent_call(network, dtype, radius), len(shell(radius))
    built = time.perf_counter()
    call()
    return {
        "flow": flow,
        "dtype": dtype_name,
        "million": sum(parameter.numel() for parameter in network.parameters()) / 1e6,
        "tokens": tokens,
        "build_s": built - start,
        "forward_s": time.perf_counter() - built,
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def main() -> int:
    """Print both flows; 1 where one needed more than 16 GiB."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", type=Path, help="folder with ss_generator.yaml and slat_generator.yaml")
    parser.add_argument("--dtype", choices=sorted(DTYPES), default="bf16", help="of weights and activations")
    parser.add_argument("--radius", type=float, default=24.0, help="of the ball, in voxels (default 24)")
    parser.add_argument("--flow", choices=("structure", "latent"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.flow:
        print(json.dumps(measure(given.flow, given.configs, given.dtype, given.radius)))
        return 0
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"{'flow':12}{'dtype':8}{'M params':>10}{'tokens':>9}{'build s':>9}{'forward s':>11}{'peak GiB':>10}")
    within = True
    for flow in ("structure", "latent"):
        command = [sys.executable, __file__, str(given.configs), "--dtype", given.dtype, "--radius", str(given.radius)]
        done = subprocess.run([*command, "--flow", flow], stdout=subprocess.PIPE, check=True, text=True)
        found: dict[str, Any] = json.loads(done.stdout)
        print(
            f"{found['flow']:12}{found['dtype']:8}{found['million']:>10.1f}{found['tokens']:>9,}"
            f"{found['build_s']:>9.1f}{found['forward_s']:>11.1f}{found['peak_gib']:>10.2f}",
            flush=True,
        )
        within &= found["peak_gib"] <= BUDGET_GIB
    print(f"{'within' if within else 'NOT within'} {BUDGET_GIB:g} GiB of host memory")
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
