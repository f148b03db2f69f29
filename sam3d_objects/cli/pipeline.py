"""`sam3d-med pipeline`: the whole way from scans to scores, each step done once."""

import dataclasses
import os
import time
from pathlib import Path
from typing import Annotated, Any

from sam3d_objects.config import EvaluateOptions, PhantomOptions, PrepareOptions, TrainOptions
from sam3d_objects.config.train import ALL
from sam3d_objects.files import read_json, sha256_file

from .evaluate import evaluate_adapter, pooled_table, write_reports
from .prepare import phantoms as make_phantoms
from .prepare import prepare as make_dataset
from .steps import Steps, fingerprint, folder_listing
from .train import BEST_ADAPTER, train_adapter

ADAPTER_FILE = "adapter_model.safetensors"
# These change how a step is carried out, never what comes out of it.
_NEUTRAL = ("num_workers", "workers", "resume", "checkpoint_steps", "checkpoint_activations")
PREPARE, TRAIN, EVALUATE = "prepare", "train", "eval"


def pipeline(
    phantoms: PhantomOptions,
    prepare: PrepareOptions,
    train: TrainOptions,
    evaluate: EvaluateOptions,
    raw_nifti: Annotated[Path | None, "folder of scans with labels; without it: synthetic phantoms"] = None,
    out: Annotated[Path | None, "folder for everything [demo, or output with --raw_nifti]"] = None,
    checkpoint_dir: Annotated[Path | None, "folder of the training run and its adapters [OUT/training]"] = None,
    eval_dir: Annotated[Path | None, "folder of the scores and the report [OUT/evaluation]"] = None,
    only_preprocess: Annotated[bool, "only prepare the data set"] = False,
    only_train: Annotated[bool, "only train, on the data set that OUT has"] = False,
    only_eval: Annotated[bool, "only evaluate the adapter that OUT has"] = False,
    preprocess: Annotated[bool, "prepare the data set; --no_preprocess takes the one that OUT has"] = True,
) -> None:
    """Go the whole way: scans -> mesh data set -> LoRA training -> scores on unseen patients -> report.

    Without --raw_nifti it runs on synthetic phantom scans. A step that is done is not done again unless its
    options or its inputs changed; one that was cut off goes on where it was.

        sam3d-med pipeline --out demo
        sam3d-med pipeline --raw_nifti Task04_Hippocampus --classes hippocampus=1+2 --out hippocampus

    Research use, not for diagnosis.
    """
    _refuse_torchrun()
    began = time.monotonic()
    out = out or Path("demo" if raw_nifti is None else "output")
    chosen = chosen_steps(only_preprocess, only_train, only_eval, preprocess)
    run = _Run(Steps(out), out / "dataset", checkpoint_dir or out / "training", eval_dir or out / "evaluation")
    if int(os.environ.get("LOCAL_RANK", "0")):  # the first process started this one, to train beside it
        run.train_beside(train)
        return
    if PREPARE in chosen:
        if raw_nifti is None:
            run.phantoms(out / "scans", phantoms)
        run.prepare(raw_nifti or out / "scans", prepare)
    if TRAIN in chosen:
        run.train(train)
    if EVALUATE in chosen:
        run.evaluate(evaluate)
        print(pooled_table(run.scores))
        print(f"Report: {run.scores / 'report.html'}   Adapter: {run.adapter}")
    print(f"Done in {time.monotonic() - began:.0f} s. Research use, not for diagnosis.")


def _refuse_torchrun() -> None:
    """Refuse `torchrun`: every process would prepare and score, all into the same folders."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        raise ValueError(
            "the pipeline is one process, and torchrun starts several: give this command --train.devices, or run "
            "`sam3d-med prepare`, then `torchrun ... sam3d-med train`, then `sam3d-med eval`"
        )


def chosen_steps(only_preprocess: bool, only_train: bool, only_eval: bool, preprocess: bool) -> set[str]:
    """Return which of prepare, train and eval are wanted.

    Raises:
        ValueError: the flags contradict each other.
    """
    only = {PREPARE: only_preprocess, TRAIN: only_train, EVALUATE: only_eval}
    named = {step for step, given in only.items() if given}
    if len(named) > 1 or (only_preprocess and not preprocess):
        raise ValueError("give at most one of --only_preprocess, --only_train, --only_eval and --no_preprocess")
    return named or ({PREPARE, TRAIN, EVALUATE} if preprocess else {TRAIN, EVALUATE})


@dataclasses.dataclass(frozen=True)
class _Run:
    """The steps with their folders."""

    steps: Steps
    data: Path
    training: Path
    scores: Path

    @property
    def adapter(self) -> Path:
        return self.training / BEST_ADAPTER

    def phantoms(self, scans: Path, options: PhantomOptions) -> None:
        self.steps.run(
            "phantoms",
            fingerprint(_values(options)),
            scans,
            "SYNTHETIC.md",
            lambda unfinished: make_phantoms(scans, options),
        )

    def prepare(self, scans: Path, options: PrepareOptions) -> None:
        sources = [folder for folder in (scans, options.test_nifti) if folder is not None]
        listings = [[str(folder.resolve()), folder_listing(folder)] for folder in sources]
        self.steps.run(
            PREPARE,
            fingerprint(_values(options), listings),
            self.data,
            "manifest.json",
            lambda unfinished: make_dataset(scans, self.data, options),
            keeps_itself=True,
        )

    def train(self, options: TrainOptions) -> None:
        def action(unfinished: bool) -> None:
            resume = options.resume or unfinished
            if train_adapter(self.data, self.training, dataclasses.replace(options, resume=resume)).interrupted:
                raise KeyboardInterrupt

        self.steps.run(
            TRAIN,
            fingerprint(_values(options), self._data_fingerprint()),
            self.training,
            str(Path(BEST_ADAPTER, *([options.stages[-1]] if options.stage == ALL else []), ADAPTER_FILE)),
            action,
        )

    def train_beside(self, options: TrainOptions) -> None:
        """Train as one of several processes; the first does all else. Without a checkpoint, resuming is starting."""
        if train_adapter(self.data, self.training, dataclasses.replace(options, resume=True)).interrupted:
            raise KeyboardInterrupt

    def evaluate(self, options: EvaluateOptions) -> None:
        from sam3d_objects.adapter import read_adapter_set

        if not self.adapter.is_dir():
            raise ValueError(f"no adapter at {self.adapter}: train first (without --only_eval)")
        adapters = read_adapter_set(self.adapter)
        request = fingerprint(_values(options), self._data_fingerprint(), adapters.identity)
        self.steps.run(
            EVALUATE,
            request,
            self.scores,
            "summary.json",
            lambda unfinished: evaluate_adapter(self.adapter, self.data, self.scores, options),
        )
        self.steps.run(
            "report",
            fingerprint(sha256_file(self.scores / "rows.csv")),
            self.scores,
            "report.html",
            lambda unfinished: write_reports(self.scores),
            keeps_itself=True,
        )

    def _data_fingerprint(self) -> str:
        manifest = self.data / "manifest.json"
        if not manifest.is_file():
            raise ValueError(f"no prepared data set at {self.data}: run once without --no_preprocess or --only_...")
        return str(read_json(manifest)["fingerprint"])


def _values(options: Any) -> dict[str, Any]:
    values = dataclasses.asdict(options)
    return {name: value for name, value in values.items() if name not in _NEUTRAL}
