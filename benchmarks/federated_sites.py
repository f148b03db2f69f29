"""Several sites against pooled training: the structure stage, the same steps in all, the same validation patients.

    python benchmarks/federated_sites.py --data_root data/hippocampus --out runs/federated

The training patients are dealt out among the sites, each with a prepared folder of its own; pooled training sees all
of them. A site makes as many steps as pooled training, in rounds, in one of two ways:

- with pooled training's batch and learning rate (`--batches whole`): of n sites each then takes n epochs for one. Sites
  work at the same time, each on its own computer, so that this takes as long as pooled training.
- with batches an n-th as large at a learning rate the root of n as high (`--batches shared`): all together then see as
  many samples, and their average moves as pooled training does (the square-root rule for Adam, Malladi et al. 2022,
  arXiv 2205.10287).

Every adapter is then scored on the same slices of the validation patients, at the best of a few thresholds. It may be
killed at any moment and called again. Results: OUT/federated.md and OUT/federated.json.
"""

import argparse
import dataclasses
import math
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sam3d_objects.adapter import load_adapter, read_adapter
from sam3d_objects.adapter.exchange import FEDAVG, RULES
from sam3d_objects.cli.stages import loop_options, ready_stage
from sam3d_objects.cli.train import train_adapter
from sam3d_objects.cli.validation import mesh_or_none, score_of, validation_slices
from sam3d_objects.config import TrainOptions
from sam3d_objects.dataset import Manifest, TS_SAM3D_Dataset
from sam3d_objects.federated import Coordinator, Plan, Site, run_locally
from sam3d_objects.files import read_json, write_json
from sam3d_objects.model import load_model
from sam3d_objects.model.stages import STRUCTURE, stage_fingerprint
from sam3d_objects.reconstruct import Reconstructor
from sam3d_objects.training.targets.build import TARGETS_FOLDER
from sam3d_objects.training.tokens import TOKENS_FOLDER

POOLED = "pooled"
WHOLE, SHARED = "whole", "shared"
THRESHOLDS = (0.3, 0.4, 0.5)
DRAWS = 2000
_NOT_TOKENS = shutil.ignore_patterns(TOKENS_FOLDER)  # these belong to a data set as a whole


def deal_out(data_root: Path, out: Path, sites: int, seed: int) -> dict[str, Path]:
    """Write one prepared folder for each site, with its own training patients alone; returns name -> folder.

    Raises:
        ValueError: fewer training patients than sites.
    """
    manifest = Manifest.load(data_root)
    patients = sorted({case.patient for case in manifest.of_split("train")})
    if len(patients) < sites:
        raise ValueError(f"{sites} sites need a training patient each; {data_root} has {len(patients)}")
    order = np.random.default_rng(seed).permutation(len(patients))
    folders = {}
    for number in range(sites):
        own = {patients[index] for index in order[number::sites]}
        folder = out / f"site_{number + 1}"
        folders[folder.name] = folder
        if (folder / "manifest.json").is_file():
            continue
        cases = tuple(case for case in manifest.cases if case.patient in own)
        for case in cases:
            shutil.copytree(data_root / "cases" / case.id, folder / "cases" / case.id, dirs_exist_ok=True)
        split = dict.fromkeys(sorted(own), "train")
        if (data_root / TARGETS_FOLDER).is_dir():  # named by their contents: what is made is not made again
            shutil.copytree(data_root / TARGETS_FOLDER, folder / TARGETS_FOLDER, ignore=_NOT_TOKENS, dirs_exist_ok=True)
        dataclasses.replace(manifest, cases=cases, skipped=(), split=split, targets={}).save(folder)
    return folders


def make_site(data_root: Path, folder: Path, options: TrainOptions, rule: str) -> Site:
    """Make a site over its prepared folder."""
    ready = ready_stage(data_root, options)
    return Site(
        ready.stage,
        loop_options(options),
        folder,
        stage_fingerprint(ready.model, STRUCTURE),
        ready.built.contract,
        tuple(ready.built.shapes.train.organs),
        rule=rule,
    )


def of_sites(options: TrainOptions, sites: int, batches: str) -> TrainOptions:
    """Return the options of one of several sites: its batch, and the rate that goes with it."""
    if batches == WHOLE:
        return options
    assert options.batch_size is not None and options.lr is not None, "of one stage"
    batch = max(1, round(options.batch_size / sites))
    return dataclasses.replace(options, batch_size=batch, lr=options.lr * math.sqrt(sites))


def federated(data: Mapping[str, Path], out: Path, options: TrainOptions, plan: Plan) -> dict[str, Any]:
    """Run what is left of a federated run, save its adapter as OUT/adapter, and return its costs."""
    sites = {name: make_site(root, out / name, options, plan.rule) for name, root in data.items()}
    first = next(iter(sites.values()))
    coordinator = Coordinator(first.parameters(), plan, out / "coordinator")
    run_locally(coordinator, {name: partial(_same, site) for name, site in sites.items()})
    first.save(coordinator.parameters, out / "adapter", {})
    rows = [site for row in coordinator.history for site in row["sites"].values()]
    return {
        "steps": round(sum(row["metrics"]["steps"] for row in rows) / len(sites)),
        "samples": sum(row["samples"] for row in rows) * plan.epochs,
        "seconds": round(sum(row["metrics"]["seconds"] for row in rows)),
        "bytes_up": rows[-1]["bytes_up"],
        "bytes_down": rows[-1]["bytes_down"],
        "off_percent": [row["off_percent"] for row in coordinator.history],
    }


def _same(site: Site) -> Site:
    return site


def pooled(data_root: Path, out: Path, options: TrainOptions) -> dict[str, Any]:
    """Train on all patients, as `sam3d-med train` does."""
    began = time.monotonic()
    result = train_adapter(data_root, out, dataclasses.replace(options, resume=True))
    if result.interrupted:
        raise KeyboardInterrupt
    samples = len(TS_SAM3D_Dataset(data_root, "train", slices_per_plane=options.slices_per_plane)) * result.epochs
    return {"steps": result.steps, "samples": samples, "seconds": round(time.monotonic() - began)}


def scores(adapter: Path | None, data_root: Path, options: TrainOptions, most: int) -> list[list[float]]:
    """Return the Dice of each validation slice at each threshold, of an adapter or of the base model."""
    model = load_model(options.base, stages=("structure",))
    slices = validation_slices(data_root, None, options.seed, most)
    if adapter is not None:
        load_adapter(adapter, model.structure_flow, base_fingerprint=stage_fingerprint(model, STRUCTURE))
        contract = read_adapter(adapter).meta.contract
    else:
        contract = ready_stage(data_root, options).built.contract.of_base()
    reconstruct = Reconstructor(model, dataclasses.replace(contract, samples=options.samples), "structure")
    found = []
    for one in slices:
        field = reconstruct.field(one.slice, options.seed)
        found.append([score_of(mesh_or_none(partial(field.mesh, t)), one.truth).dice for t in THRESHOLDS])
    return found


def compare(results: Mapping[str, Any], seed: int) -> dict[str, dict[str, float]]:
    """Return for each system its mean Dice (percent) at its best threshold, and how far it is from pooled training.

    The interval is of a bootstrap over slices, 95 %.
    """
    best: dict[str, Any] = {}
    for name, result in results.items():
        table = np.array(result["dice"])
        best[name] = 100 * table[:, table.mean(axis=0).argmax()]
    rows = {}
    for name, dice in best.items():
        gap = dice - best[POOLED]
        draws = np.random.default_rng(seed).integers(len(gap), size=(DRAWS, len(gap)))
        low, high = np.percentile(gap[draws].mean(axis=1), (2.5, 97.5))
        rows[name] = {"dice": dice.mean(), "gap": gap.mean(), "low": low, "high": high}
    return {name: {key: round(float(value), 2) for key, value in row.items()} for name, row in rows.items()}


def markdown(results: Mapping[str, Any], weights: Mapping[str, int], seed: int) -> str:
    """Return the tables."""
    lines = ["| system | Dice, % | against pooled (95 %) | steps of a site | samples | bytes of a round: up + down |"]
    lines += ["|---|---|---|---|---|---|"]
    for name, row in compare(results, seed).items():
        cost = results[name]["cost"]
        both = f"{cost['bytes_up']:,} + {cost['bytes_down']:,}" if "bytes_up" in cost else ""
        gap = f"{row['gap']:+.2f} ({row['low']:+.2f} to {row['high']:+.2f})"
        work = f"{cost.get('steps', '')} | {cost.get('samples', '')}"
        lines.append(f"| {name} | {row['dice']:.2f} | {gap} | {work} | {both} |")
    sizes = ", ".join(f"{name} {size:,}" for name, size in weights.items())
    return "\n".join([*lines, "", f"Bytes of full weights: {sizes}.", ""])


def full_weights(base: str) -> dict[str, int]:
    """Return the bytes of what would be sent without adapters."""
    model = load_model(base, stages=("structure",))
    size = {"model": model, "structure flow": model.structure_flow}
    return {name: sum(p.numel() * p.element_size() for p in module.parameters()) for name, module in size.items()}


def arguments(words: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_root", type=Path, required=True, help="prepared data set")
    parser.add_argument("--out", type=Path, required=True, help="folder of this experiment")
    parser.add_argument("--sites", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=20, help="of pooled training (default 20)")
    parser.add_argument(
        "--rounds", type=int, default=60, help="rounds in which a site makes as many steps (default 60)"
    )
    parser.add_argument("--batches", choices=(WHOLE, SHARED), default=WHOLE, help="of a site (default whole)")
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--lr", type=float, default=None, help="default: that of `sam3d-med train`")
    parser.add_argument("--variants", type=int, default=8, help="warped copies of each organ")
    parser.add_argument("--cache_epochs", type=int, default=0, help="slices of so many epochs are used again and again")
    parser.add_argument("--rules", nargs="*", choices=RULES, default=[FEDAVG], help="(default fedavg; svd: few rounds)")
    parser.add_argument("--slices", type=int, default=54, help="validation slices, at most")
    parser.add_argument("--samples", type=int, default=8, help="samples that are averaged (K)")
    parser.add_argument("--base", default="tiny")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(words)


def main(words: Sequence[str]) -> None:
    """Run what is not done yet, and write the tables."""
    asked = arguments(words)
    options = TrainOptions(
        base=asked.base,
        epochs=asked.epochs,
        lora_rank=asked.rank,
        lora_alpha=2.0 * asked.rank,
        lr=asked.lr,
        variants=asked.variants,
        cache_epochs=asked.cache_epochs,
        seed=asked.seed,
        samples=asked.samples,
        threshold=0.4,  # a given one is not searched for; here the best of a few is taken for all alike
        validate_every=asked.epochs,
        validation_slices=4,
    ).of_stage(STRUCTURE)
    out: Path = asked.out
    epochs = asked.epochs * (asked.sites if asked.batches == WHOLE else 1)
    plan = Plan(asked.rounds, -(-epochs // asked.rounds), min_sites=asked.sites)
    file = out / "federated.json"
    results: dict[str, Any] = read_json(file)["results"] if file.is_file() else {}
    weights = full_weights(asked.base)
    for name in ("base", POOLED, *asked.rules):
        if name in results:
            continue
        cost: dict[str, Any] = {}
        adapter: Path | None = None
        if name == POOLED:
            cost, adapter = pooled(asked.data_root, out / POOLED, options), out / POOLED / "last"
        elif name != "base":
            one = dataclasses.replace(plan, rule=name)
            data = deal_out(asked.data_root, out / "data", asked.sites, asked.seed)
            cost = federated(data, out / name, of_sites(options, asked.sites, asked.batches), one)
            adapter = out / name / "adapter"
        results[name] = {"cost": cost, "dice": scores(adapter, asked.data_root, options, asked.slices)}
        write_json(file, {"options": dataclasses.asdict(options), "full_weights": weights, "results": results})
        if POOLED in results:
            (out / "federated.md").write_text(markdown(results, weights, asked.seed), encoding="utf-8")
    print(markdown(results, weights, asked.seed))


if __name__ == "__main__":
    main(sys.argv[1:])
