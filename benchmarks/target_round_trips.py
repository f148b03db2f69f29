"""How much of each organ comes back through a base's encoders and decoders, beside what its grids allow at best.

    python benchmarks/target_round_trips.py --data_root data/hippocampus [--base tiny] [--shapes 8] [--inversions 2]

For each organ of a prepared data set: structure IoU and surface distance after encode -> decode, surface distance of
latents by the latent encoder and by inversion of the mesh decoder, all in mm. The ceilings have no network: the organ's
exact occupancy on the structure's grid, and the exact share inside on the mesh decoder's fine grid, each turned into a
surface as inference does. Nothing is written to the data set; targets go to a temporary folder.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from sam3d_objects.dataset import SPLITS, Manifest, TS_SAM3D_Dataset
from sam3d_objects.files import write_json
from sam3d_objects.mesh import Mesh, occupancy_grid
from sam3d_objects.model import SAM3DObjects, load_model
from sam3d_objects.training.targets import (
    InversionOptions,
    LatentTargets,
    StructureTargets,
    SurfaceDistance,
    distance_between,
    occupancy_iou,
    resolve_source,
    structure_surface,
)


@dataclass(frozen=True)
class Shape:
    """One organ in object coordinates; `size_mm` is what 1 is there."""

    name: str
    organ: str
    mesh: Mesh
    size_mm: float


@dataclass
class Trip:
    """What one way there and back measured: mean and 95th percentile of the distance in mm, IoUs, seconds a shape."""

    assd_mm: list[float] = field(default_factory=list)
    p95_mm: list[float] = field(default_factory=list)
    iou: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def add(self, shape: Shape, distance: SurfaceDistance, seconds: float, iou: float | None = None) -> None:
        """Add one shape's figures."""
        self.assd_mm.append(distance.mean * shape.size_mm)
        self.p95_mm.append(distance.p95 * shape.size_mm)
        self.seconds.append(seconds)
        if iou is not None:
            self.iou.append(iou)

    def means(self) -> dict[str, float]:
        """The means of all figures, and how many shapes there were."""
        means = {name: float(np.mean(values)) for name, values in vars(self).items() if values}
        return {"shapes": len(self.seconds), **means}


def organ_shapes(data_root: Path, most: int) -> Iterator[Shape]:
    """Yield at most so many shapes of each organ, spread over the cases of all splits."""
    manifest = Manifest.load(data_root)
    datasets = [TS_SAM3D_Dataset(data_root, split) for split in SPLITS if split in manifest.split.values()]
    for organ in manifest.structures:
        places = [(dataset, case) for dataset in datasets for case, name in dataset.pairs if name == organ]
        for index in np.unique(np.linspace(0, len(places) - 1, min(most, len(places))).round().astype(int)):
            dataset, case = places[index]
            frame, mesh = dataset.frame(case, organ), dataset.geometry(case, organ)
            yield Shape(f"{case}/{organ}", organ, Mesh(frame.to_object(mesh.vertices), mesh.faces), frame.size_mm)


def ceilings(shape: Shape, model: SAM3DObjects, fine: int) -> Iterator[tuple[str, SurfaceDistance, float | None]]:
    """Yield name, distance and IoU of the exact grids: of the structure, and of the mesh decoder's cubes."""
    settings = model.settings
    grid = occupancy_grid(shape.mesh, settings.resolution, settings.occupancy)
    surface = structure_surface(grid.astype(np.float64), settings.occupancy)
    again = torch.from_numpy(occupancy_grid(surface, settings.resolution, settings.occupancy))
    iou = occupancy_iou(again - 0.5, torch.from_numpy(grid))
    yield "structure grid", distance_between(shape.mesh, surface), iou
    exact = occupancy_grid(shape.mesh, fine, "solid").astype(np.float64)
    yield "latent grid", distance_between(shape.mesh, structure_surface(exact, "solid")), None


def measure(shapes: Sequence[Shape], model: SAM3DObjects, folder: Path, inversions: int, steps: int) -> dict[str, Trip]:
    """Measure every way for the shapes of one organ."""
    latent = model.latent_stage
    makers: dict[str, LatentTargets] = {"inversion": LatentTargets(model, folder, "inversion", InversionOptions(steps))}
    if resolve_source(latent, "auto")[0] == "encoder":
        makers["latent encoder"] = LatentTargets(model, folder, "encoder")
    structure = StructureTargets(model, folder)
    trips: dict[str, Trip] = {}
    for number, shape in enumerate(shapes):
        began = time.monotonic()
        for name, distance, iou in ceilings(shape, model, latent.mesh_decoder.fine_resolution):
            trips.setdefault(name, Trip()).add(shape, distance, time.monotonic() - began, iou)
        began = time.monotonic()
        (encoded,) = structure.targets([shape.mesh])
        trips.setdefault("structure", Trip()).add(shape, encoded.distance, time.monotonic() - began, encoded.iou)
        for name, maker in makers.items():
            if name != "inversion" or number < inversions:
                began = time.monotonic()
                (target,) = maker.targets([shape.mesh])
                trips.setdefault(name, Trip()).add(shape, target.distance, time.monotonic() - began)
                print(f"{shape.name}: {name} {target.distance.mean * shape.size_mm:.4f} mm", flush=True)
    return trips


ROWS = ("structure grid", "structure", "latent grid", "latent encoder", "inversion")


def table(organ: str, trips: dict[str, Trip]) -> str:
    """One organ's figures as a Markdown table."""
    lines = ["| way | shapes | IoU | ASSD mm | 95 % mm | s a shape |", "|---|---|---|---|---|---|"]
    for name in ROWS:
        if name in trips:
            means = trips[name].means()
            iou = f"{means['iou']:.3f}" if "iou" in means else ""
            what = f"{name} (no network)" if name.endswith("grid") else name
            lines.append(
                f"| {what} | {means['shapes']:.0f} | {iou} | {means['assd_mm']:.4f} | {means['p95_mm']:.4f} "
                f"| {means['seconds']:.1f} |"
            )
    return f"\n{organ}\n\n" + "\n".join(lines)


def main() -> None:
    """Run the benchmark as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_root", type=Path, required=True, help="prepared data set")
    parser.add_argument("--base", default="tiny", help="base model: tiny or a folder")
    parser.add_argument("--shapes", type=int, default=8, help="shapes of each organ")
    parser.add_argument("--inversions", type=int, default=2, help="shapes of each organ that are inverted")
    parser.add_argument("--steps", type=int, default=InversionOptions().steps, help="steps of inversion")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = load_model(arguments.base)
    shapes = list(organ_shapes(arguments.data_root, arguments.shapes))
    figures: dict[str, dict[str, dict[str, float]]] = {}
    for organ in dict.fromkeys(shape.organ for shape in shapes):
        with tempfile.TemporaryDirectory() as folder:
            ours = [shape for shape in shapes if shape.organ == organ]
            trips = measure(ours, model, Path(folder), arguments.inversions, arguments.steps)
        figures[organ] = {name: trip.means() for name, trip in trips.items()}
        print(table(organ, trips), flush=True)
    if arguments.out:
        write_json(arguments.out, json.loads(json.dumps(figures)))


if __name__ == "__main__":
    main()
