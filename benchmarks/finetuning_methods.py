"""LoRA of several ranks, full fine-tuning and training from scratch, judged on every patient of a data set.

    python -m benchmarks.finetuning_methods --data_root data/hippocampus --out runs/methods [--epochs 20] [--jobs 2]

The data set is cut into folds by patient. In each fold every method trains with the same number of steps
(`sam3d-med train`), and is scored on the fold's test patients (`sam3d-med eval`); the base model, simple methods and a
direct-regression network are scored on the same slices. Scores are pooled over the folds, with 95 % intervals over
patients; systems are compared case by case. As soon as a fold is judged by all methods, only such folds are pooled.
Each step is a process of its own, whose peak memory is measured. It may be killed at any moment and called again: what
is done stays done, and what was done for another request is refused.
Results: OUT/methods.md and OUT/methods.json.
"""

import argparse
import math
import sys
import threading
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from safetensors import safe_open

from benchmarks.method_steps import RECORD, Step
from sam3d_objects.dataset.folds import FoldOptions, make_folds
from sam3d_objects.evaluation.pooled import (
    differences_table,
    pooled_differences,
    pooled_slices,
    pooled_systems,
    rows_as,
    slices_table,
    systems_table,
)
from sam3d_objects.evaluation.rows import Row
from sam3d_objects.files import atomic_path, read_json, write_json

# Each learns best at a rate of its own: small matrices bear a high one, trained weights a lower one.
# Rank 4 also with an alpha that grows as the root of the rank instead of as the rank (Kalajdzievski 2023).
METHODS: Mapping[str, tuple[str, ...]] = {
    "lora_r4": ("--method", "lora", "--lora_rank", "4", "--lora_alpha", "8"),
    "lora_r4_a16": ("--method", "lora", "--lora_rank", "4", "--lora_alpha", "16"),
    "lora_r8": ("--method", "lora", "--lora_rank", "8", "--lora_alpha", "16"),
    "lora_r16": ("--method", "lora", "--lora_rank", "16", "--lora_alpha", "32"),
    "full": ("--method", "full", "--lr", "5e-4"),
    "scratch": ("--method", "scratch", "--lr", "1e-3"),
}
REFERENCE = "lora_r16"  # its evaluation also judges what does not depend on the method, and its stages are added to
SIMPLE = ("extrusion", "ellipsoid", "mean_shape", "nearest_shape", "pca_shape")
DIRECT = "direct"
STAGES = ("latent", "decoder")
ADDED = {"stage_latent": "+latent", "stage_decoder": "+latent+decoder"}


@dataclass(frozen=True)
class Settings:
    """What was asked for on the command line."""

    out: Path
    methods: tuple[str, ...]
    stages: bool
    direct: bool
    only: tuple[str, ...]
    epochs: int | None
    config: Path | None
    base: str
    seed: int
    threads: int
    jobs: int

    @property
    def reference(self) -> str:
        """The method whose evaluation also judges what does not depend on the method."""
        return REFERENCE if REFERENCE in self.methods else self.methods[0]

    def run_folder(self, fold: Path, name: str) -> Path:
        """Where a method's run in a fold lies."""
        return self.out / "runs" / fold.name / name

    @property
    def common(self) -> tuple[str, ...]:
        """Words of every command."""
        preset = ("--config", str(self.config)) if self.config else ()
        return (*preset, "--base", self.base, "--seed", str(self.seed))


def method_steps(settings: Settings, fold: Path, name: str) -> list[Step]:
    """Train a method in a fold, and score it; after the reference the other stages, if they are asked for."""
    folder, reference = settings.run_folder(fold, name), name == settings.reference
    systems = ("base", "adapted", *SIMPLE) if reference else ("adapted",)
    direct = ("--direct",) if reference and settings.direct else ()
    epochs = ("--epochs", str(settings.epochs)) if settings.epochs else ()
    trainings = [train_step(settings, fold, name, (*METHODS[name], *epochs))]
    adapter = folder / "training" / "best"
    steps = [trainings[0], score_step(settings, fold, name, systems, adapter, trainings, {}, direct)]
    if not (reference and settings.stages):
        return steps
    adapters = {"structure": adapter}
    for stage in STAGES:
        label = f"stage_{stage}"
        adapters = {**adapters, stage: settings.run_folder(fold, label) / "training" / "best"}
        together = settings.run_folder(fold, label) / "adapters"
        copies = {together / part: original for part, original in adapters.items()}
        trainings.append(train_step(settings, fold, label, (*METHODS[name], "--stage", stage)))
        steps += [trainings[-1], score_step(settings, fold, label, ("adapted",), together, trainings, copies)]
    return steps


def train_step(settings: Settings, fold: Path, name: str, words: Sequence[str]) -> Step:
    """One training: without early stopping, so that all methods take as many steps."""
    folder = settings.run_folder(fold, name)
    places = ("--data_root", str(fold), "--checkpoint_dir", str(folder / "training"))
    asked = ("train", *settings.common, "--patience", "0", "--resume", *words)
    return Step(f"{fold.name}/{name}/train", folder / "train", asked, places)


def score_step(
    settings: Settings,
    fold: Path,
    name: str,
    systems: Sequence[str],
    adapter: Path,
    trainings: Sequence[Step],
    copies: Mapping[Path, Path],
    words: Sequence[str] = (),
) -> Step:
    """One evaluation of what some trainings left."""
    folder = settings.run_folder(fold, name)
    places = ("--checkpoint", str(adapter), "--data_root", str(fold), "--eval_dir", str(folder / "evaluation"))
    asked = ("eval", *settings.common, "--systems", ",".join(systems), *words)
    trained = tuple(step.words for step in trainings)
    return Step(f"{fold.name}/{name}/eval", folder / "eval", asked, places, copies, trained)


def check_finished(settings: Settings, folds: Sequence[Path]) -> None:
    """Refuse steps that were done for another request, also those that are left out this time: all are pooled.

    Raises:
        ValueError: there are such steps; the message says of the first what differs, and what to do.
    """
    wrong, chosen = [], replace(settings, stages=True)
    for step in [step for fold in folds for name in chosen.methods for step in method_steps(chosen, fold, name)]:
        try:
            _ = step.cost
        except ValueError as error:
            wrong.append(str(error))
    if wrong:
        raise ValueError(wrong[0] + (f" (so it is with {len(wrong) - 1} more steps)" if wrong[1:] else ""))


def run_all(settings: Settings, folds: Sequence[Path]) -> list[str]:
    """Run what is not done, several chains of steps at once, keeping the table up to date; returns what failed.

    Raises:
        ValueError: as `check_finished`.
    """
    check_finished(settings, folds)
    failures: list[str] = []
    lock = threading.Lock()

    def run_chain(chain: list[Step]) -> None:
        for step in chain:
            print(f"{step.name}: {'was done' if step.cost else 'running'}", flush=True)
            try:
                step.run(settings.threads)
            except (ValueError, OSError) as error:
                print(error, flush=True)
                failures.append(str(error))
                return
            with lock:
                write_results(settings, folds)

    chains = [method_steps(settings, fold, name) for fold in folds for name in settings.methods]
    if settings.only:
        chains = [[step for step in chain if any(part in step.name for part in settings.only)] for chain in chains]
    with ThreadPoolExecutor(settings.jobs) as pool:
        list(pool.map(run_chain, chains))
    return failures


def whole_folds(settings: Settings, folds: Sequence[Path]) -> list[Path]:
    """The folds that every method was judged in, so that all are pooled over the same cases; else all folds."""
    names = (*settings.methods, *(f"stage_{stage}" for stage in STAGES if settings.stages))
    whole = [
        fold
        for fold in folds
        if all((settings.run_folder(fold, name) / "eval" / RECORD).is_file() for name in names)
    ]
    return whole or list(folds)


def judged(settings: Settings, folds: Sequence[Path]) -> dict[str, list[Row]]:
    """System -> its rows, pooled over the folds in which it was judged."""
    rows: dict[str, list[Row]] = {}
    for fold in folds:
        for name in (*settings.methods, *(f"stage_{stage}" for stage in STAGES)):
            folder = settings.run_folder(fold, name)
            if not (folder / "eval" / RECORD).is_file():
                continue
            names = {"adapted": ADDED.get(name, name)}
            if name == settings.reference:
                names |= {other: other for other in ("base", *SIMPLE, *([DIRECT] if settings.direct else []))}
            for row in rows_as(folder / "evaluation" / "rows.csv", names):
                rows.setdefault(row.system, []).append(row)
    return rows


def training_facts(settings: Settings, folds: Sequence[Path], name: str) -> dict[str, float | None]:
    """What a method's adapters are and took: means over the folds, the largest peak; None where none ran in one go."""
    run_folders = [settings.run_folder(fold, name) for fold in folds]
    done = [folder for folder in run_folders if (folder / "train" / RECORD).is_file()]
    if not done:
        return {}
    records = [read_json(folder / "train" / RECORD) for folder in done]
    costs = [record for record in records if record.get("whole", True)]  # earlier versions did not note it
    files = [folder / "training" / "best" / "adapter_model.safetensors" for folder in done]
    return {
        "parameters": max(parameters_of(file) for file in files),
        "adapter_mb": max(file.stat().st_size for file in files) / 1e6,
        "cpu_minutes": sum(cost["cpu_minutes"] for cost in costs) / len(costs) if costs else None,
        "peak_mib": max((cost["peak_mib"] for cost in costs), default=None),
    }


def parameters_of(file: Path) -> int:
    """Numbers in a .safetensors file."""
    with safe_open(file, framework="numpy") as tensors:
        return sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118


def pairs(settings: Settings, systems: Collection[str]) -> list[tuple[str, str]]:
    """Which systems are compared case by case: each LoRA with full, the reference with what a user would try.

    The reference was named beforehand: the best of several, chosen by the scores that are compared, would flatter.
    """
    wanted = [(name, "full") for name in systems if name.startswith("lora")]
    wanted += [(settings.reference, other) for other in ("base", "scratch", "full", DIRECT, *SIMPLE)]
    wanted += [("full", "scratch")]
    wanted += [(ADDED["stage_latent"], settings.reference), (ADDED["stage_decoder"], ADDED["stage_latent"])]
    known = [pair for pair in wanted if pair[0] != pair[1] and set(pair) <= set(systems)]
    return list(dict.fromkeys(known))


def write_results(settings: Settings, folds: Sequence[Path]) -> None:
    """Write methods.json and methods.md."""
    pooled = whole_folds(settings, folds)
    rows = judged(settings, pooled)
    systems, slices = pooled_systems(rows), pooled_slices(rows)
    runs = {name: next((run for run, added in ADDED.items() if added == name), name) for name in systems}
    facts = {name: training_facts(settings, pooled, run) for name, run in runs.items()}
    differences = pooled_differences(rows, pairs(settings, systems))
    asked = {"epochs": settings.epochs, "base": settings.base, "seed": settings.seed}
    counts = {"folds": len(folds), "pooled": len(pooled)}
    found = {name: {**figures, **facts[name], "slices": slices[name]} for name, figures in systems.items()}
    write_json(settings.out / "methods.json", {**counts, **asked, "systems": found, "differences": differences})
    columns = {"trained": "parameters", "MB": "adapter_mb", "CPU minutes": "cpu_minutes", "peak MiB": "peak_mib"}
    forms = {"trained": "{:,.0f}", "MB": "{:.2f}", "CPU minutes": "{:.1f}", "peak MiB": "{:.0f}"}
    further = {
        title: {name: "-" if own[key] is None else forms[title].format(own[key]) for name, own in facts.items() if own}
        for title, key in columns.items()
    }
    text = (
        f"# Methods compared\n\n{len(pooled)} of {len(folds)} folds by patient, {settings.epochs or 'default'} epochs "
        f"each without early stopping, base {settings.base}, seed {settings.seed}. Mean over median, 95 % bootstrap "
        "intervals over patients. Trained numbers are those that the adapter holds; minutes of processor time and peak "
        "memory (resident) are of the trainings that ran in one go.\n\n"
        f"{systems_table(systems, further)}\n\nOn the same cases:\n\n{differences_table(differences)}\n\n"
        f"Mean Dice by kind of slice:\n\n{slices_table(slices)}\n"
    )
    with atomic_path(settings.out / "methods.md") as temporary:
        temporary.write_text(text, encoding="utf-8")


def parse(words: Sequence[str] | None = None) -> tuple[Path, int, Settings]:
    """The data set, the number of folds, and the settings."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_root", type=Path, required=True, help="prepared data set; its own split is not used")
    parser.add_argument("--out", type=Path, required=True, help="folder of folds, runs and results")
    parser.add_argument("--folds", type=int, default=5, help="folds by patient (default 5)")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS), help="default: all")
    parser.add_argument("--stages", action="store_true", help="also train latent and decoder, and score them added")
    parser.add_argument("--no_direct", action="store_true", help="leave the direct-regression network out")
    parser.add_argument("--only", nargs="+", default=[], help="only steps with such a text, e.g. fold0/ lora_r4/train")
    parser.add_argument("--epochs", type=int, help="epochs of every method (default: those of the structure stage)")
    parser.add_argument("--config", type=Path, help="preset with sections train and evaluate, for all methods")
    parser.add_argument("--base", default="tiny", help="base model (default tiny)")
    parser.add_argument("--seed", type=int, default=0, help="of folds, training and evaluation (default 0)")
    parser.add_argument("--threads", type=int, default=1, help="threads of each process (default 1)")
    parser.add_argument("--jobs", type=int, default=1, help="processes at once (default 1)")
    given = vars(parser.parse_args(words))
    data_root, folds, direct = given.pop("data_root"), given.pop("folds"), not given.pop("no_direct")
    for name in ("methods", "only"):
        given[name] = tuple(given[name])
    return data_root, folds, Settings(direct=direct, **given)


def main() -> int:
    """Run everything, print the table, and return 1 if a step failed, or was done for another request."""
    data_root, count, settings = parse()
    folds = make_folds(data_root, settings.out / "folds", FoldOptions(count, seed=settings.seed))
    try:
        failures = run_all(settings, folds)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    write_results(settings, folds)
    print((settings.out / "methods.md").read_text(encoding="utf-8"))
    for failure in failures:
        print(f"FAILED {failure}", file=sys.stderr)
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
