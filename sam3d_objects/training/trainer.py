"""The one training loop, on Lightning Fabric. What is trained, and on what, is the stage's business."""

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from sam3d_objects.model.checkpointing import checkpoint_blocks
from sam3d_objects.training.batches import epoch_batches
from sam3d_objects.training.feed import Feed, Portion
from sam3d_objects.training.interrupt import StopRequest
from sam3d_objects.training.launch import launch
from sam3d_objects.training.learner import Learner
from sam3d_objects.training.memory_report import MemoryReport
from sam3d_objects.training.options import LoopOptions
from sam3d_objects.training.processes import Processes
from sam3d_objects.training.progress import readable_time
from sam3d_objects.training.randomness import derive_seed, seed_global_generators, torch_generator
from sam3d_objects.training.result import NonFiniteLossError, TrainResult
from sam3d_objects.training.run_folder import RunFolder
from sam3d_objects.training.run_log import RunLog
from sam3d_objects.training.schedule import lr_factor
from sam3d_objects.training.stage import Stage
from sam3d_objects.training.state import Counters
from sam3d_objects.training.validated import Validator
from sam3d_objects.training.validating import Validation


class MedicalTrainer:
    """Trains one stage, in one process or several, and keeps its run in a folder.

    `run_dir` holds `best/` and `last/` (what the stage saves), `state.safetensors` (everything that a resumed
    run needs), `config.json`, `environment.json`, `history.json` and `tensorboard/`. With several processes every one
    makes a trainer alike; the first writes and prints, and `run_dir` and the data are where all can read them.

    Args:
        stage: what is trained, and on what.
        options: how.
        run_dir: the run's folder.
        validator: called at each validation, with the weights that would be saved in place; returns further
            metrics, and pictures. Which metrics are best, the stage's `score` says. With several processes the first
            alone calls it, unless the weights are spread over them.
        console: where progress goes.

    Raises:
        ValueError: nothing to train on, nothing trainable, no blocks to checkpoint, a network that can't be compiled,
            or a device or processes that cannot do what is asked.
    """

    def __init__(
        self,
        stage: Stage,
        options: LoopOptions,
        run_dir: Path,
        *,
        validator: Validator | None = None,
        console: Console | None = None,
    ) -> None:
        count = len(stage.train_samples)
        if count == 0:
            raise ValueError(f"stage {stage.name}: no training samples; check the split and the organs")
        self.stage, self.options = stage, options
        self.run_dir = Path(run_dir)
        self.launched = launch(
            options.device, options.precision, options.devices, options.strategy, compiled=options.compile
        )
        self.fabric = self.launched.fabric
        self.processes = Processes(self.fabric)
        self.folder = RunFolder(self.run_dir, self.processes)
        self.log = RunLog(console or Console(), silent=not self.processes.first)
        self.counters = Counters()
        self.summary = self._setup_module()
        self.learner = Learner(self.fabric, stage.module, options)
        self.batch_size = options.batch_size * self.processes.count
        self.batches_per_epoch = -(-count // self.batch_size)
        self.total_steps = options.epochs * -(-self.batches_per_epoch // options.accumulate)
        self.feed = Feed(stage, self.processes, options.num_workers)
        self.validation = Validation(stage, self.learner, self.feed, options, validator)
        self.memory = MemoryReport(stage, self.fabric, self.log.say)
        self._prepared = False
        self._stop = StopRequest()

    def _setup_module(self) -> str:
        """Let the stage freeze what stays and inject its adapters, alike in every run of this seed."""
        seed_global_generators(self.options.seed)
        summary, module = self.stage.set_trainable(), self.stage.module
        if not any(parameter.requires_grad for parameter in module.parameters()):
            raise ValueError(f"stage {self.stage.name}: no parameter is trainable")
        if self.options.checkpoint_activations and not checkpoint_blocks(module):
            raise ValueError(f"stage {self.stage.name}: its network has no blocks; turn checkpoint_activations off")
        return summary

    def record(self) -> dict[str, Any]:
        """Return what makes this run this run, as JSON; only a run with the same record may resume it."""
        options = {**self.options.record(), **self.launched.record()}
        return json.loads(json.dumps({"options": options, "stage": self.stage.record()}))

    def train(self, resume: bool = False) -> TrainResult:
        """Run to the end, or until somebody asks to stop.

        Args:
            resume: go on from the folder's checkpoint, if it has one.

        Raises:
            ValueError: the folder holds a run and `resume` is not set, or the run there is another one.
            NonFiniteLossError: the loss is not finite.
        """
        if self.folder.holds_a_run():
            if not resume:
                raise ValueError(f"{self.run_dir} holds a run already: resume it, or choose another folder")
            self.load_checkpoint()
        counters = self.counters
        if counters.finished:
            self.log.say(f"{self.run_dir}: this run is finished")
            return self.folder.result(counters)
        self._announce()
        self._prepare()
        self.folder.write_record(self.record(), self.fabric.device, counters.step)
        if not (counters.step or counters.position):  # who resumes was told
            self.memory.begin(self._portions(self._batches()))
        done = counters.epoch * self.batches_per_epoch + counters.position
        total = self.options.epochs * self.batches_per_epoch
        began = time.monotonic()
        with self.log.open(self.run_dir, counters.step, done, total), self._stop:
            while not counters.finished and not self._asked_to_stop():
                self._run_epoch()
        result = self.folder.result(counters)
        took = readable_time(time.monotonic() - began)
        self.log.say(f"{result.ending} after {result.epochs} epochs, {result.steps} steps, {took}")
        self.memory.compare()
        return result

    def _asked_to_stop(self) -> bool:
        return self.processes.any(self._stop.asked)

    def _run_epoch(self) -> None:
        """Train an epoch, validate where it is due, save, and go to the next epoch."""
        began = time.monotonic()
        means = self.train_epoch()
        counters, options = self.counters, self.options
        if counters.position < self.batches_per_epoch:
            self.save_checkpoint()
            return
        self.memory.measure()
        number = counters.epoch + 1
        row: dict[str, Any] = {"epoch": number, "step": counters.step, "train": means}
        if number % options.validate_every == 0 or number == options.epochs:
            row["validation"] = self.validate()
            self._judge(row["validation"])
        counters.history.append({**row, "seconds": round(time.monotonic() - began, 2)})
        counters.finished = number == options.epochs or counters.stopped_early
        counters.next_epoch()
        self.log.epoch(row, options.epochs, counters.best_epoch == number)
        self.save_checkpoint()

    def train_epoch(self) -> dict[str, float]:
        """Train what is left of the current epoch and return the epoch's mean loss and parts.

        It ends early, between two batches, when a stop was asked for.
        """
        self._prepare()
        self.learner.network.train()
        counters, options = self.counters, self.options
        batches = self._batches()
        for portion in self._portions(batches):
            first = counters.position // options.accumulate * options.accumulate
            group = batches[first : first + options.accumulate]
            self._backward(portion, of=sum(len(members) for members in group))
            counters.position += 1
            if counters.position == first + len(group):
                self._step(portion.names)
                due = options.checkpoint_steps and counters.step % options.checkpoint_steps == 0
                if due and counters.position < len(batches):  # the end of the epoch saves anyway
                    self.save_checkpoint()
            if self._asked_to_stop():
                break
        return counters.means()

    def _batches(self) -> list[list[int]]:
        """Return what is in each batch of the epoch, of all processes."""
        return epoch_batches(len(self.stage.train_samples), self.batch_size, self.options.seed, self.counters.epoch)

    def _portions(self, batches: Sequence[Sequence[int]]) -> Iterator[Portion]:
        """Yield this process's portions of what is left of the epoch."""
        stage, counters, seed = self.stage, self.counters, self.options.seed
        stage.train_samples.set_epoch(counters.epoch)
        positions = range(counters.position, len(batches))
        generators = [torch_generator(seed, "loss", counters.epoch, position) for position in positions]
        return self.feed.portions(stage.train_samples, batches[counters.position :], stage.draw, generators)

    def _backward(self, portion: Portion, of: int) -> None:
        """Add the gradient of one batch to those of its step, which has `of` samples."""
        counters, share = self.counters, portion.share
        # Dropout takes the global generators: alike however the run got here, another one in each process.
        place = (counters.epoch, counters.position, self.processes.rank)
        seed_global_generators(derive_seed(self.options.seed, "dropout", *place))
        with self.fabric.autocast():
            loss, parts = self.stage.loss(self.learner.network, portion.batch, portion.draws)
        values = {"loss": float(loss.detach())} | {name: float(p.detach()) for name, p in parts.items()}
        values = self.processes.means(values, share.weight)
        if not math.isfinite(values["loss"]):
            raise NonFiniteLossError(self._not_finite("loss", values["loss"], portion.names))
        self.learner.backward(loss, share.weight / of)
        counters.add(values, share.total)
        self.log.batch(counters.epoch, values["loss"])

    def _step(self, names: Sequence[str]) -> None:
        """Clip, step, average."""
        counters, options = self.counters, self.options
        warmup = min(options.warmup_steps, self.total_steps // 10)
        lr = options.lr * lr_factor(counters.step, warmup, self.total_steps, options.lr_floor)
        norm = self.learner.clip()
        # With a loss scaler an overflow is expected now and then: it skips the step and lowers the scale.
        if not self.learner.scaler and not math.isfinite(norm):
            raise NonFiniteLossError(self._not_finite("gradient", norm, names))
        self.learner.step(lr)
        counters.step += 1
        if counters.step % options.log_steps == 0:
            self.log.scalars("train", {"lr": lr, "gradient_norm": norm, **counters.means()}, counters.step)

    def _not_finite(self, what: str, value: float, names: Sequence[str]) -> str:
        place = f"epoch {self.counters.epoch + 1}, batch {self.counters.position + 1}"
        everyone = dict.fromkeys(name for own in self.processes.gathered(list(names)) for name in own)
        return (
            f"the {what} is {value} in {place} of {self.batches_per_epoch}, with {', '.join(everyone)}: look at "
            f"these samples, or lower the learning rate; {self.run_dir} keeps the last checkpoint"
        )

    def validate(self) -> dict[str, float]:
        """Return the metrics, on the validation samples and by the validator, of what would be saved.

        The noises and times are the same at every call. Without validation samples and validator there are no
        metrics. Pictures go to TensorBoard.

        Raises:
            NonFiniteLossError: a metric is not finite.
        """
        self._prepare()
        found = self.validation.run()
        metrics = dict(found.metrics)
        bad = {name: value for name, value in metrics.items() if not math.isfinite(value)}
        if bad:
            raise NonFiniteLossError(f"validation after epoch {self.counters.epoch + 1} is not finite: {bad}")
        self.log.pictures(found.pictures, self.counters.step)
        return metrics

    def _judge(self, metrics: Mapping[str, float]) -> None:
        """Keep the last and the best adapter, and count the validations since the best."""
        counters, options = self.counters, self.options
        score = self.stage.score(metrics)
        best = counters.best_score
        better = score is None or best is None or score > best + options.min_improvement
        self.folder.keep(self.stage, self.learner, metrics, best=better)
        if better:
            counters.best_score, counters.best_epoch, counters.worse = score, counters.epoch + 1, 0
            return
        counters.worse += 1
        counters.stopped_early = bool(options.patience) and counters.worse >= options.patience

    def save_checkpoint(self) -> Path:
        """Write everything that a resumed run needs, atomically, and return the file."""
        return self.folder.save(self.learner, self.counters, self.record())

    def load_checkpoint(self, path: Path | None = None) -> None:
        """Go on from a checkpoint: a file, a run's folder, or this run's own.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is damaged, or of a run with other options, processes or data; all differences are named.
        """
        self.counters = self.folder.load(self.learner, self.record(), path)

    def take_moments(self, run_dir: Path) -> None:
        """Begin with the optimiser's moments where another run of the same module has come to.

        Raises:
            FileNotFoundError: that folder has no checkpoint.
            ValueError: it is damaged, or of other parameters; the message names them.
        """
        self.folder.load_moments(self.learner, run_dir)

    def _prepare(self) -> None:
        if self._prepared:
            return
        # The first process makes targets, the others read them.
        with self.processes.first_goes_ahead():
            self.stage.prepare(self.fabric.device, self.log.say)
        self._prepared = True

    def _announce(self) -> None:
        options, counters = self.options, self.counters
        self.log.say(self.summary)
        for name, value in self.stage.counts().items():
            self.log.say(f"{name}: {value}")
        if not len(self.stage.validation_samples) and not self.validation.validator:
            self.log.say("no validation patients: no early stopping, and the best adapter is the last")
        size = f"{options.epochs} epochs of {self.batches_per_epoch} batches ({self.total_steps} steps)"
        where = f"{self.fabric.device.type}, precision {self.launched.precision}, seed {options.seed}"
        where += f", {self.processes.count} processes ({self.launched.strategy})" if self.processes.count > 1 else ""
        self.log.say(f"up to {size} on {where}, into {self.run_dir}")
        if counters.step or counters.position:
            place = f"epoch {counters.epoch + 1}, batch {counters.position + 1}, step {counters.step + 1}"
            self.log.say(f"resumed at {place}")
