"""3^3 convolution at active voxels against a dense `conv3d`, on a spherical shell of voxels.

    python benchmarks/sparse_convolution.py [--resolution 64] [--channels 128] [--repeats 3]

Each line is a process of its own. Memory is the peak resident size (ru_maxrss) beyond what is resident once input and
weights are there: for the sparse way this includes the neighbour map, while the dense way has its zero-filled cube as
its input before the count begins. Times are medians; the map is timed apart, since all layers on one shell share it.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from sam3d_objects.model.sparse import SparseConv3d, SparseGrid, SparseTensor

WAYS = ("sparse forward", "dense forward", "sparse forward + backward", "dense forward + backward")
RADIUS = 0.4  # of the cube's side
THICKNESS = 1.2  # voxels: about 12 of the 27 taps meet an active voxel, as on the release's shells

Measured = dict[str, float]


def shell_coordinates(resolution: int) -> Tensor:
    """Voxels whose centre is within THICKNESS / 2 of the sphere: int32 (N, 4), one sample."""
    axis = torch.arange(resolution) - (resolution - 1) / 2
    distance = (axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis**2).sqrt()
    places = ((distance - RADIUS * resolution).abs() <= THICKNESS / 2).nonzero().int()
    return nn.functional.pad(places, (1, 0))


def sparse_way(layer: SparseConv3d, features: Tensor, grid: SparseGrid) -> tuple[Tensor, Callable[[], Tensor]]:
    """The input (N, C), and what makes features (N, C) of it."""
    return features, lambda: layer(SparseTensor(features, grid)).features


def dense_way(layer: SparseConv3d, features: Tensor, grid: SparseGrid) -> tuple[Tensor, Callable[[], Tensor]]:
    """The input (1, C, R, R, R), zero away from the N active voxels, and what makes features (N, C) of it."""
    side = max(grid.extent) + int(grid.coordinates[:, 1:].min())  # the shell lies in the middle
    _, i, j, k = grid.coordinates.long().unbind(1)
    cube = torch.zeros(1, features.shape[1], side, side, side)
    cube[0, :, i, j, k] = features.T
    weight = nn.Parameter(layer.conv.weight.detach().permute(0, 4, 1, 2, 3).contiguous())
    bias = nn.Parameter(layer.conv.bias.detach())
    return cube, lambda: at_voxels(nn.functional.conv3d(cube, weight, bias, padding=1), grid)


def at_voxels(values: Tensor, grid: SparseGrid) -> Tensor:
    """Of a cube (1, C, R, R, R) the active voxels; features (N, C) stay."""
    _, i, j, k = grid.coordinates.long().unbind(1)
    return values if values.ndim == 2 else values[0, :, i, j, k].T


def measure(way: str, resolution: int, channels: int, repeats: int) -> Measured:
    """Run one way in this process and describe it.

    `out` and `gradient` are the norms of the result and of the input's gradient at the active voxels (for the loss
    |result|^2 / 2), by which the ways are seen to agree.
    """
    coordinates = shell_coordinates(resolution)
    _run(way, SparseGrid(shell_coordinates(8)), channels, 1)  # loads what the first call loads
    return _run(way, SparseGrid(coordinates), channels, repeats)


def _run(way: str, grid: SparseGrid, channels: int, repeats: int) -> Measured:
    torch.manual_seed(0)
    layer, features = SparseConv3d(channels, channels), torch.randn(len(grid), channels)
    backward = way.endswith("backward")
    given, run = (dense_way if way.startswith("dense") else sparse_way)(layer, features, grid)
    given.requires_grad_(backward)
    before = resident_mib()
    forward_s, backward_s = [], []
    for _ in range(repeats + 1):  # the first one makes the map, and does not count
        given.grad = None
        start = time.perf_counter()
        with torch.set_grad_enabled(backward):
            out = run()
        middle = time.perf_counter()
        if backward:
            out.backward(out.detach())
        forward_s.append(middle - start)
        backward_s.append(time.perf_counter() - middle)
    return {
        "forward_s": statistics.median(forward_s[1:]),
        "backward_s": statistics.median(backward_s[1:]),
        "peak_mib": peak_mib() - before,
        "out": float(out.detach().norm()),
        "gradient": 0.0 if given.grad is None else float(at_voxels(given.grad, grid).norm()),
    }


def measure_map(resolution: int, repeats: int) -> Measured:
    """Time to build the neighbour map in this process, its size, and how many of the 27 taps meet a voxel."""
    coordinates = shell_coordinates(resolution)
    seconds = []
    for _ in range(repeats + 1):
        grid = SparseGrid(coordinates)
        start = time.perf_counter()
        neighbours = grid.neighbours
        seconds.append(time.perf_counter() - start)
    return {
        "map_s": statistics.median(seconds[1:]),
        "map_mib": neighbours.nbytes / 2**20,
        "taps": 1 + neighbours.pairs / len(grid),
    }


def peak_mib() -> float:
    """Largest resident size of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def resident_mib() -> float:
    """Resident size of this process now (Linux)."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 2**20


def measure_apart(way: str, resolution: int, channels: int, repeats: int) -> Measured:
    """`measure` in a fresh process; prints its line."""
    request = json.dumps([way, resolution, channels, repeats])
    command = [sys.executable, __file__, "--measure", request]
    found: Measured = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout)
    print(
        f"{way:28}{1e3 * found['forward_s']:>12.0f}{1e3 * found['backward_s']:>13.0f}{found['peak_mib']:>11.1f}"
        f"{found['out']:>12.3f}{found['gradient']:>12.3f}",
        flush=True,
    )
    return found


def main() -> None:
    """Print the table, and the ratios of dense to sparse."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--resolution", type=int, default=64, help="voxels along a side (default 64)")
    parser.add_argument("--channels", type=int, default=128, help="channels in and out (default 128)")
    parser.add_argument("--repeats", type=int, default=3, help="calls, of which the median is reported (default 3)")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(*json.loads(arguments.measure))))
        return
    neighbours = measure_map(arguments.resolution, arguments.repeats)
    print(
        f"{torch.get_num_threads()} threads, {len(shell_coordinates(arguments.resolution)):,} voxels of "
        f"{arguments.resolution}^3, {arguments.channels} channels, {neighbours['taps']:.1f} of 27 taps in use"
    )
    print(f"{'way':28}{'forward ms':>12}{'backward ms':>13}{'peak MiB':>11}{'|out|':>12}{'|gradient|':>12}")
    found = {way: measure_apart(way, arguments.resolution, arguments.channels, arguments.repeats) for way in WAYS}
    forward, dense_forward, both, dense_both = (found[way] for way in WAYS)
    print(
        f"dense / sparse: forward {dense_forward['forward_s'] / forward['forward_s']:.1f} of the time, "
        f"{dense_forward['peak_mib'] / forward['peak_mib']:.1f} of the memory; "
        f"backward {dense_both['backward_s'] / both['backward_s']:.1f} of the time, "
        f"forward + backward {dense_both['peak_mib'] / both['peak_mib']:.1f} of the memory"
    )
    print(
        f"neighbour map: {1e3 * neighbours['map_s']:.1f} ms, "
        f"{neighbours['map_s'] / (neighbours['map_s'] + forward['forward_s']):.1%} of one layer's first forward; "
        f"{neighbours['map_mib']:.1f} MiB, {neighbours['map_mib'] / forward['peak_mib']:.1%} of its peak"
    )


if __name__ == "__main__":
    main()
