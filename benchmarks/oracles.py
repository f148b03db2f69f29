"""Which part of a reconstruction loses how much: each part in turn is replaced by the truth, and the rest scored.

    python benchmarks/oracles.py --checkpoint runs/hippocampus/best --data_root data/hippocampus --out runs/oracles

The slices are those of `sam3d-med eval`, in patient millimetres. An organ is drawn as K samples, each a shape in a unit
box and a pose (place in the slice plane, place through it, size); they are fitted to the mask, averaged and cut at the
adapter's threshold. A true part is put in after the fit, so what a row gains over the prediction is what that part
costs. The prediction is led through the mask last of all, in a row of its own. It may be killed and called again.
Results: OUT/oracles.md, OUT/oracles.json and rows.csv.
"""

import argparse
import dataclasses
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from rich.progress import Progress

from sam3d_objects.adapter import InferenceContract
from sam3d_objects.arrays import FloatArray
from sam3d_objects.cli.evaluate import check_fits
from sam3d_objects.cli.models import load_adapted
from sam3d_objects.cli.systems import structure_round_trip
from sam3d_objects.config import ReconstructOptions
from sam3d_objects.dataset import Manifest
from sam3d_objects.evaluation import Case, Material, Row, evaluate, prepared_cases
from sam3d_objects.evaluation.pooled import differences_table, pooled_differences, pooled_systems, systems_table
from sam3d_objects.files import atomic_path, write_json
from sam3d_objects.mesh import Mesh, ObjectFrame, SliceCamera, occupancy_grid, solid_from_shell
from sam3d_objects.model import SAM3DObjects
from sam3d_objects.reconstruct import PlacedSolid, Reconstructor, average, fit_to_mask, surface_through_mask
from sam3d_objects.volume import SliceInput, condition_image

PREDICTION = "prediction"
IN_PLANE, THROUGH = (True, True, False), (False, False, True)
EVEN = 0.5  # where one solid alone is cut


class Drawn:
    """One slice: what the model drew of it, and the truth.

    Args:
        reconstructor: whose contract has no fit; draws the samples.
        material: of the slice.
        seed: of the samples.
    """

    def __init__(self, reconstructor: Reconstructor, material: Material, seed: int) -> None:
        self.reconstructor, self.material, self.seed = reconstructor, material, seed
        contract = reconstructor.contract
        self.threshold = contract.threshold
        self.seen, self.image01 = condition_image(
            material.slice, reconstructor.intensity, contract.field_of_view, contract.margin_mm
        )
        self.camera = SliceCamera.from_plane(self.seen.plane)
        self.frame = ObjectFrame.from_points(material.truth.mesh.bounds)

    @cached_property
    def raw(self) -> list[PlacedSolid]:
        """The K samples as they were drawn."""
        return self.reconstructor.samples_of(self.image01, self.seen, self.seed)

    @cached_property
    def fitted(self) -> list[PlacedSolid]:
        """The K samples, fitted to the mask."""
        return fit_to_mask(self.raw, self.seen.mask, self.seen.plane)

    @cached_property
    def occupancy(self) -> FloatArray:
        """(R, R, R): the organ on the structure's grid, as its encoder takes it."""
        mesh, settings = self.material.truth.mesh, self.reconstructor.model.settings
        inside = Mesh(self.frame.to_object(mesh.vertices), mesh.faces)
        return occupancy_grid(inside, settings.resolution, settings.occupancy)

    @cached_property
    def encoded(self) -> FloatArray:
        """(R, R, R): the solid that the encoder and the decoder give back."""
        return structure_round_trip(self.reconstructor.model)(self.occupancy)

    def grid(self) -> Mesh:
        """The organ at its true place, as fine as the grid is."""
        solid = self.reconstructor.model.settings.occupancy == "solid"
        field = self.occupancy.astype(np.float64) if solid else solid_from_shell(self.occupancy)
        return average([PlacedSolid(field, self.frame)]).mesh(EVEN)

    def encoded_at_truth(self) -> Mesh:
        """What encoder and decoder make of the organ, at its true place."""
        return average([PlacedSolid(self.encoded, self.frame)]).mesh(EVEN)

    def one_sample(self) -> Mesh:
        """The first sample alone, fitted."""
        return average(fit_to_mask(self.raw[:1], self.seen.mask, self.seen.plane)).mesh(EVEN)

    def sampled_pose(self) -> Mesh:
        """The encoded organ where the samples lie."""
        moved = [PlacedSolid(self.encoded, sample.frame, sample.weight) for sample in self.fitted]
        return average(moved).mesh(self.threshold)

    def with_truth(self, place: tuple[bool, bool, bool] = (False, False, False), size: bool = False) -> Mesh:
        """The prediction with the true place along some of the camera's axes, or the true size."""
        true_mm = self.camera.to_camera(self.frame.center_mm)
        moved = []
        for sample in self.fitted:
            center_mm = np.where(place, true_mm, self.camera.to_camera(sample.frame.center_mm))
            size_mm = self.frame.size_mm if size else sample.frame.size_mm
            frame = ObjectFrame(self.camera.to_patient(center_mm), size_mm)
            moved.append(PlacedSolid(sample.field, frame, sample.weight))
        return average(moved).mesh(self.threshold)

    def through_mask(self) -> Mesh:
        """The prediction, led through the mask."""
        slice = self.material.slice
        return surface_through_mask(average(self.fitted), self.threshold, slice.mask, slice.plane)

    def refined(self) -> Mesh:
        """The same with the surface that the latent stage draws on it."""
        return self.reconstructor.refined(self.material.slice, self.through_mask(), self.seed)


ORACLES: Mapping[str, Callable[[Drawn], Mesh]] = {
    "truth": lambda drawn: drawn.material.truth.mesh,
    "truth on the grid": Drawn.grid,
    "truth, encoded and decoded": Drawn.encoded_at_truth,
    "true pose, sampled shape": lambda drawn: drawn.with_truth((True, True, True), size=True),
    "sampled pose, true shape": Drawn.sampled_pose,
    "true place through the plane": lambda drawn: drawn.with_truth(THROUGH),
    "true place in the plane": lambda drawn: drawn.with_truth(IN_PLANE),
    "true size": lambda drawn: drawn.with_truth(size=True),
    PREDICTION: lambda drawn: drawn.with_truth(),
    "prediction, through the mask": Drawn.through_mask,
    "prediction, through the mask, latent surface": Drawn.refined,
    "one sample": Drawn.one_sample,
    "without the fit": lambda drawn: average(drawn.raw).mesh(drawn.threshold),
}


class Bench:
    """Cases and systems for `evaluate`: a system is told the slice alone, so the truth is kept here when it is loaded.

    Args:
        model, contract: as `load_adapted` gives them.
    """

    def __init__(self, model: SAM3DObjects, contract: InferenceContract) -> None:
        self.reconstructor = Reconstructor(model, dataclasses.replace(contract, fit=False), "structure")
        self.drawn: Drawn | None = None
        self.material: Material | None = None

    def case(self, case: Case) -> Case:
        """The same case; loading it makes it the one that the systems work on."""
        return dataclasses.replace(case, load=partial(self._load, case))

    def _load(self, case: Case) -> Material:
        self.material, self.drawn = case.load(), None
        return self.material

    def system(self, make: Callable[[Drawn], Mesh]) -> Callable[[SliceInput, int], Mesh]:
        """An oracle as a predictor."""

        def predict(slice: SliceInput, seed: int) -> Mesh:
            assert self.material is not None and self.material.slice is slice, "its case is loaded before"
            # Drawn once for all oracles of a slice.
            self.drawn = self.drawn or Drawn(self.reconstructor, self.material, seed)
            return make(self.drawn)

        return predict


def spread_cases(data_root: Path, seed: int, split: str, most: int | None) -> list[Case]:
    """Return a split's slices, at most `most` of them, spread over the patients."""
    cases = prepared_cases(data_root, seed=seed, split=split)
    chosen = np.linspace(0, len(cases) - 1, min(most or len(cases), len(cases))).round().astype(int)
    return [cases[number] for number in chosen]


def judge(
    checkpoint: Path, data_root: Path, out: Path, options: ReconstructOptions, split: str, most: int | None
) -> list[Row]:
    """Score every oracle on a data set's slices, at most `most` of them, spread over the patients."""
    manifest = Manifest.load(data_root)
    model, contract = load_adapted(checkpoint, options)
    check_fits(contract, manifest)
    cases = spread_cases(data_root, options.seed, split, most)
    bench = Bench(model, contract)
    oracles = {name: make for name, make in ORACLES.items() if model.latent is not None or make is not Drawn.refined}
    adapter = "".join(sorted(path.read_text(encoding="utf-8") for path in checkpoint.rglob("sam3d.json")))
    with Progress() as bar:
        task = bar.add_task("oracles", total=len(cases) * len(oracles))
        return evaluate(
            [bench.case(case) for case in cases],
            {name: bench.system(make) for name, make in oracles.items()},
            out,
            options.seed,
            identity=f"{manifest.fingerprint} {model.fingerprint} {adapter} {contract}",
            artefacts=False,
            progress=lambda done, total, line: bar.update(task, completed=done, description=line),
        )


def tables(rows: list[Row], title: str) -> tuple[dict[str, object], str]:
    """What was found, as JSON and as Markdown."""
    systems = {name: [row for row in rows if row.system == name] for name in ORACLES}
    kept = {name: own for name, own in systems.items() if own}
    figures = pooled_systems(kept)
    differences = pooled_differences(kept, [(name, PREDICTION) for name in kept if name != PREDICTION])
    text = (
        f"# What each part costs\n\n{title} Mean over median, 95 % bootstrap intervals over patients.\n\n"
        f"{systems_table(figures, {})}\n\nGains over the prediction, on the same slices:\n\n"
        f"{differences_table(differences)}\n"
    )
    return {"systems": figures, "differences": differences}, text


def arguments(description: str | None, split: str) -> argparse.Namespace:
    """Read a command line that names an adapter and slices; `split` is whose, unless it says so."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True, help="adapter of the structure stage, or a set")
    parser.add_argument("--data_root", type=Path, required=True, help="prepared data set")
    parser.add_argument("--out", type=Path, required=True, help="folder for what is found")
    parser.add_argument("--base", default="tiny", help="base model of the adapter (default tiny)")
    parser.add_argument("--split", default=split, choices=("test", "val", "train"), help=f"default {split}")
    parser.add_argument("--most", type=int, help="at most so many slices (default all)")
    parser.add_argument("--samples", type=int, help="samples K (default: the adapter's)")
    parser.add_argument("--device", default="auto", help="auto | cpu | cuda")
    parser.add_argument("--seed", type=int, default=0, help="of the random slices and of the samples (default 0)")
    return parser.parse_args()


def write_found(out: Path, name: str, found: object, text: str) -> None:
    """Write OUT/NAME.json and OUT/NAME.md, and print the text."""
    write_json(out / f"{name}.json", found)
    with atomic_path(out / f"{name}.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(text)


def main() -> None:
    """Score the oracles and print their table."""
    given = arguments(__doc__, "test")
    options = ReconstructOptions(base=given.base, samples=given.samples, device=given.device, seed=given.seed)
    rows = judge(given.checkpoint, given.data_root, given.out, options, given.split, given.most)
    patients = len({row.patient for row in rows})
    found, text = tables(rows, f"{given.split} split of {given.data_root}, {patients} patients, {given.checkpoint}.")
    write_found(given.out, "oracles", found, text)


if __name__ == "__main__":
    main()
