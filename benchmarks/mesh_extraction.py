"""Mesh extraction from active cubes against extraction from the dense grid, on a spherical shell of voxels.

    python benchmarks/mesh_extraction.py [--latent 64] [--repeats 3] [--curve]

Both get the same features of the mesh decoder (the shell's voxels, each 4^3 cubes) and go through `extract_surface`;
the dense way gives it every cube of the (4 x latent)^3 grid, as the released software does. Each measurement is a
process of its own. Memory is the peak resident size (ru_maxrss) beyond what is resident once the features are there, so
the dense way's tables of cubes count; they are made once, so the time to make them does not.
"""

import argparse
import hashlib
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from sam3d_objects.model.flexicubes import Surface, corner_values, extract_surface, surface_from_features
from sam3d_objects.model.flexicubes.corners import vertex_positions
from sam3d_objects.model.flexicubes.keys import corner_keys, linear_keys, places_of
from sam3d_objects.model.flexicubes.layout import ALPHA, BETA, GAMMA

UPSAMPLING = 4  # cubes along a voxel's side
CORNERS = torch.tensor([[c & 1, c >> 1 & 1, c >> 2] for c in range(8)])
RADIUS = 0.45  # of the cube's side
CURVE = (0.1, 0.2, 0.3, 0.4, 0.48)


def shell_features(latent: int, radius: float) -> tuple[Tensor, Tensor]:
    """Features (N, 101) and cubes (N, 3) of the voxels that a sphere (radius in the unit cube) passes through."""
    voxels = torch.cartesian_prod(*[torch.arange(latent)] * 3)
    low = (voxels / latent - 0.5).abs()
    high = ((voxels + 1) / latent - 0.5).abs()
    nearest = torch.minimum(low, high).norm(dim=1)
    farthest = torch.maximum(low, high).norm(dim=1)
    voxels = voxels[(nearest <= radius) & (farthest >= radius)]
    children = torch.cartesian_prod(*[torch.arange(UPSAMPLING)] * 3)
    cubes = (voxels[:, None] * UPSAMPLING + children).flatten(0, 1)
    resolution = latent * UPSAMPLING
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(len(cubes), 101, generator=generator)
    for corner, offset in enumerate(CORNERS):
        features[:, corner] = ((cubes + offset) / resolution - 0.5).norm(dim=1) - radius + 1 / resolution
    return features, cubes


def dense_extraction(features: Tensor, coordinates: Tensor, resolution: int) -> Callable[[], Surface]:
    """Make the dense grid's tables; returns what extracts the surface with them."""
    places = places_of(torch.arange(resolution**3), resolution)
    cubes = corner_keys(places, resolution)

    def extract() -> Surface:
        corners = corner_values(features, coordinates, resolution)
        vertex_count = (resolution + 1) ** 3
        sdf = torch.ones(vertex_count).index_put_((corners.keys,), corners.sdf)
        deform = torch.zeros(vertex_count, 3).index_put_((corners.keys,), corners.deform)
        assert corners.colour is not None
        colour = torch.zeros(vertex_count, 6).index_put_((corners.keys,), corners.colour)
        positions = vertex_positions(places_of(torch.arange(vertex_count), resolution + 1), deform, resolution)
        active = linear_keys(coordinates, resolution)
        weights = torch.zeros(resolution**3, BETA + ALPHA + GAMMA).index_put_((active,), corners.weights)
        del deform, corners
        beta, alpha, gamma = weights.split([BETA, ALPHA, GAMMA], dim=1)
        return extract_surface(positions, sdf, cubes, places, resolution, beta, alpha, gamma.squeeze(1), colour)

    return extract


def backward_extraction(features: Tensor, coordinates: Tensor, resolution: int) -> Surface:
    """Extract as in training, and send a gradient back to the features."""
    features.grad = None
    surface, regulariser = surface_from_features(features.requires_grad_(), coordinates, resolution, training=True)
    assert regulariser is not None and surface.attributes is not None
    (surface.vertices.square().mean() + surface.attributes.square().mean() + regulariser).backward()
    return surface


def peak_mib() -> float:
    """Largest resident size of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def resident_mib() -> float:
    """Resident size of this process now (Linux)."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 2**20


def measure(way: str, latent: int, radius: float, repeats: int) -> dict[str, float | str]:
    """Run one way in this process and describe it."""
    resolution = latent * UPSAMPLING
    surface_from_features(*shell_features(8, radius), 32)  # loads what the first call loads
    features, coordinates = shell_features(latent, radius)
    before = resident_mib()
    ways: dict[str, Callable[[], Surface]] = {
        "active": lambda: surface_from_features(features, coordinates, resolution)[0],
        "active, forward + backward": lambda: backward_extraction(features, coordinates, resolution),
    }
    run = dense_extraction(features, coordinates, resolution) if way == "dense" else ways[way]
    seconds, cpu_seconds = [], []
    for _ in range(repeats):
        start, cpu_start = time.perf_counter(), time.process_time()
        surface = run()
        seconds.append(time.perf_counter() - start)
        cpu_seconds.append(time.process_time() - cpu_start)
    digest = hashlib.sha256(surface.faces.numpy().tobytes() + surface.vertices.detach().numpy().tobytes())
    return {
        "way": way,
        "cubes": len(coordinates),
        "voxels": len(coordinates) // UPSAMPLING**3,
        "faces": len(surface.faces),
        "seconds": statistics.median(seconds),
        "cpu_seconds": statistics.median(cpu_seconds),
        "peak_mib": peak_mib() - before,
        "surface": digest.hexdigest()[:12],
    }


def measure_apart(way: str, latent: int, radius: float, repeats: int) -> dict[str, float | str]:
    """`measure` in a fresh process."""
    request = json.dumps([way, latent, radius, repeats])
    done = subprocess.run(
        [sys.executable, __file__, "--measure", request], stdout=subprocess.PIPE, check=True, text=True
    )
    found: dict[str, float | str] = json.loads(done.stdout)
    print(
        f"{found['way']:28}{found['voxels']:>9,}{found['cubes']:>11,}{found['faces']:>10,}"
        f"{found['seconds']:>9.2f}{found['cpu_seconds']:>9.2f}{found['peak_mib']:>10.0f}  {found['surface']}",
        flush=True,
    )
    return found


def main() -> None:
    """Print the comparison, or with --curve how extraction grows with the shell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latent", type=int, default=64, help="voxels along a side (default 64, the release's)")
    parser.add_argument("--repeats", type=int, default=3, help="calls, of which the median is reported (default 3)")
    parser.add_argument("--curve", action="store_true", help="instead, active cubes only, on shells of growing radius")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(*json.loads(arguments.measure))))
        return
    print(f"{torch.get_num_threads()} threads, grid of {arguments.latent * UPSAMPLING}^3 cubes")
    print(f"{'way':28}{'voxels':>9}{'cubes':>11}{'faces':>10}{'seconds':>9}{'CPU s':>9}{'peak MiB':>10}  surface")
    if arguments.curve:
        for radius in CURVE:
            measure_apart("active", arguments.latent, radius, arguments.repeats)
        return
    active, dense, _ = (
        measure_apart(way, arguments.latent, RADIUS, arguments.repeats)
        for way in ("active", "dense", "active, forward + backward")
    )
    print(
        f"active / dense: {float(active['peak_mib']) / float(dense['peak_mib']):.3f} of the memory, "
        f"{float(active['seconds']) / float(dense['seconds']):.3f} of the time, "
        f"{'the same' if active['surface'] == dense['surface'] else 'ANOTHER'} surface"
    )


if __name__ == "__main__":
    main()
