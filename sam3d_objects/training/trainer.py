"""The one training loop, on Lightning Fabric. What is trained, and on what, is the stage's business."""

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn

from sam3d_objects.files import write_json
from sam3d_objects.training.batches import epoch_batches, load_ahead, split_batches
from sam3d_objects.training.checkpoint import differences, load_run_state, save_run_state
from sam3d_objects.training.ema import WeightAverage
from sam3d_objects.training.interrupt import StopRequest
from sam3d_objects.training.journal import HISTORY_FILE, write_run_record
from sam3d_objects.training.options import LoopOptions
from sam3d_objects.training.precision import make_fabric
from sam3d_objects.training.progress import readable_time
from sam3d_objects.training.randomness import (
    preserved_random_state,
    seed_global_generators,
    torch_generator,
)
from sam3d_objects.training.result import NonFiniteLossError, TrainResult
from sam3d_objects.training.run_log import RunLog
from sam3d_objects.training.schedule import lr_factor
from sam3d_objects.training.stage import Batch, Stage
from sam3d_objects.training.state import Counters, Learner, restore, snapshot

STATE_FILE = "state.safetensors"
BEST, LAST = "best", "last"

Validator = Callable[[], Mapping[str, float]]


class MedicalTrainer:
    """Trains one stage and keeps its run in a folder.

    `run_dir` holds `best/` and `last/` (what the stage saves), `state.safetensors` (everything that a resumed
    run needs), `config.json`, `environment.json`, `history.json` and `tensorboard/`.

    Args:
        stage: what is trained, and on what.
        options: how.
        run_dir: the run's folder.
        validator: called at each validation, with the weights that would be saved in place; returns further
            metrics. If `dice` is among them, the highest dice is best; otherwise the lowest validation loss.
        console: where progress goes.

    Raises:
        ValueError: nothing to train on, nothing trainable, or the device cannot do what is asked.
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
        self.stage, self.options, self.validator = stage, options, validator
        self.run_dir = Path(run_dir)
        self.log = RunLog(console or Console())
        self.fabric, self.precision = make_fabric(options.device, options.precision)
        self.counters = Counters()
        self.summary = self._setup_lora()
        self.network, self.learner = self._setup_learner()
        self.batches_per_epoch = -(-count // options.batch_size)
        self.total_steps = options.epochs * -(-self.batches_per_epoch // options.accumulate)
        self._prepared = False
        self._stop = StopRequest()

    def _setup_lora(self) -> str:
        """Let the stage freeze what stays and inject its adapters, alike in every run of this seed."""
        seed_global_generators(self.options.seed)
        return self.stage.set_trainable()

    def _setup_learner(self) -> tuple[nn.Module, Learner]:
        parameters = {name: p for name, p in self.stage.module.named_parameters() if p.requires_grad}
        if not parameters:
            raise ValueError(f"stage {self.stage.name}: no parameter is trainable")
        options = self.options
        groups = [
            {"params": [p for p in parameters.values() if p.ndim >= 2], "weight_decay": options.weight_decay},
            {"params": [p for p in parameters.values() if p.ndim < 2], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW([g for g in groups if g["params"]], lr=options.lr, betas=options.betas)
        network, self._fabric_optimizer = self.fabric.setup(self.stage.module, optimizer)
        average = WeightAverage(parameters, options.ema_decay) if options.ema_decay else None
        scaler = getattr(self.fabric.strategy.precision, "scaler", None)
        return network, Learner(parameters, optimizer, average, scaler)

    def record(self) -> dict[str, Any]:
        """Return what makes this run this run, as JSON; only a run with the same record may resume it."""
        where = {"device": self.fabric.device.type, "precision": self.precision}
        record = {"options": {**self.options.record(), **where}, "stage": self.stage.record()}
        return json.loads(json.dumps(record))

    def train(self, resume: bool = False) -> TrainResult:
        """Run to the end, or until somebody asks to stop.

        Args:
            resume: go on from the folder's checkpoint, if it has one.

        Raises:
            ValueError: the folder holds a run and `resume` is not set, or the run there is another one.
            NonFiniteLossError: the loss is not finite.
        """
        if (self.run_dir / STATE_FILE).exists():
            if not resume:
                raise ValueError(f"{self.run_dir} holds a run already: resume it, or choose another folder")
            self.load_checkpoint()
        else:
            seed_global_generators(self.options.seed)  # whatever was drawn since this trainer was made
        counters = self.counters
        if counters.finished:
            self.log.say(f"{self.run_dir}: this run is finished")
            return self._result()
        self._announce()
        self._prepare()
        write_run_record(self.run_dir, self.record(), self.fabric.device, counters.step)
        done = counters.epoch * self.batches_per_epoch + counters.position
        total = self.options.epochs * self.batches_per_epoch
        began = time.monotonic()
        with self.log.open(self.run_dir, counters.step, done, total), self._stop:
            while not counters.finished and not self._stop.asked:
                self._run_epoch()
        result = self._result()
        took = readable_time(time.monotonic() - began)
        self.log.say(f"{result.ending} after {result.epochs} epochs, {result.steps} steps, {took}")
        return result

    def _run_epoch(self) -> None:
        """Train an epoch, validate where it is due, save, and go to the next epoch."""
        began = time.monotonic()
        means = self.train_epoch()
        counters, options = self.counters, self.options
        if counters.position < self.batches_per_epoch:
            self.save_checkpoint()
            return
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
        self.network.train()
        source, counters, options = self.stage.train_samples, self.counters, self.options
        batches = epoch_batches(len(source), options.batch_size, options.seed, counters.epoch)
        source.set_epoch(counters.epoch)
        for names, batch in self._load(source, batches[counters.position :]):
            first = counters.position // options.accumulate * options.accumulate
            group = batches[first : first + options.accumulate]
            self._backward(batch, names, share=len(names) / sum(len(members) for members in group))
            counters.position += 1
            if counters.position == first + len(group):
                self._step(names)
                due = options.checkpoint_steps and counters.step % options.checkpoint_steps == 0
                if due and counters.position < len(batches):  # the end of the epoch saves anyway
                    self.save_checkpoint()
            if self._stop.asked:
                break
        return counters.means()

    def _load(self, source: Any, batches: Sequence[Sequence[int]]) -> Iterator[tuple[list[str], Batch]]:
        def load(indices: Sequence[int]) -> tuple[list[str], Batch]:
            samples = [source[index] for index in indices]
            return self.stage.sample_names(samples), self.stage.make_batch(samples)

        for names, batch in load_ahead(load, batches, self.options.num_workers):
            yield names, self.fabric.to_device(batch)

    def _backward(self, batch: Batch, names: Sequence[str], share: float) -> None:
        """Add the gradient of one batch, weighted by its share of the step's samples."""
        counters = self.counters
        generator = torch_generator(self.options.seed, "loss", counters.epoch, counters.position)
        with self.fabric.autocast():
            loss, parts = self.stage.loss(self.network, batch, generator)
        values = {"loss": float(loss.detach())} | {name: float(p.detach()) for name, p in parts.items()}
        if not math.isfinite(values["loss"]):
            raise NonFiniteLossError(self._not_finite("loss", values["loss"], names))
        self.fabric.backward(loss * share)
        counters.add(values, len(names))
        self.log.batch(counters.epoch, values["loss"])

    def _step(self, names: Sequence[str]) -> None:
        """Clip, step, average."""
        counters, options = self.counters, self.options
        warmup = min(options.warmup_steps, self.total_steps // 10)
        lr = options.lr * lr_factor(counters.step, warmup, self.total_steps, options.lr_floor)
        for group in self.learner.optimizer.param_groups:
            group["lr"] = lr
        clipped = self.fabric.clip_gradients(
            self.network,
            self._fabric_optimizer,
            max_norm=options.clip_norm or math.inf,
            error_if_nonfinite=False,
        )
        assert clipped is not None, "Fabric returns the norm when it clips by norm"
        norm = float(clipped)
        # With a loss scaler an overflow is expected now and then: it skips the step and lowers the scale.
        if not self.learner.scaler and not math.isfinite(norm):
            raise NonFiniteLossError(self._not_finite("gradient", norm, names))
        self._fabric_optimizer.step()
        self._fabric_optimizer.zero_grad(set_to_none=True)
        counters.step += 1
        if self.learner.average:
            self.learner.average.update()
        if counters.step % options.log_steps == 0:
            self.log.scalars("train", {"lr": lr, "gradient_norm": norm, **counters.means()}, counters.step)

    def _not_finite(self, what: str, value: float, names: Sequence[str]) -> str:
        place = f"epoch {self.counters.epoch + 1}, batch {self.counters.position + 1}"
        return (
            f"the {what} is {value} in {place} of {self.batches_per_epoch}, with {', '.join(names)}: look at "
            f"these samples, or lower the learning rate; {self.run_dir} keeps the last checkpoint"
        )

    def validate(self) -> dict[str, float]:
        """Return the metrics, on the validation samples and by the validator, of what would be saved.

        The noises and times are the same at every call, and training's random numbers are not touched.
        Without validation samples and validator there are no metrics.

        Raises:
            NonFiniteLossError: a metric is not finite.
        """
        self._prepare()
        sums = Counters()
        samples = self.stage.validation_samples
        batches = split_batches(range(len(samples)), self.options.batch_size)
        self.network.eval()
        with preserved_random_state(), self._saved_weights(), torch.no_grad():
            for index, (names, batch) in enumerate(self._load(samples, batches)):
                generator = torch_generator(self.options.seed, "validation", index)
                with self.fabric.autocast():
                    parts = self.stage.validate(self.network, batch, generator)
                sums.add({name: float(part) for name, part in parts.items()}, len(names))
            metrics = sums.means() if sums.samples else {}
            if self.validator:
                metrics |= {name: float(value) for name, value in self.validator().items()}
        bad = {name: value for name, value in metrics.items() if not math.isfinite(value)}
        if bad:
            raise NonFiniteLossError(f"validation after epoch {self.counters.epoch + 1} is not finite: {bad}")
        return metrics

    def _saved_weights(self) -> AbstractContextManager[None]:
        return self.learner.average.applied() if self.learner.average else nullcontext()

    def _judge(self, metrics: Mapping[str, float]) -> None:
        """Keep the last and the best adapter, and count the validations since the best."""
        counters, options = self.counters, self.options
        score = metrics.get("dice", -metrics.get("loss", 0.0)) if metrics else None
        best = counters.best_score
        better = score is None or best is None or score > best + options.min_improvement
        with self._saved_weights():
            for name in (LAST, BEST) if better else (LAST,):
                self.stage.save(self.run_dir / name, metrics)
        if better:
            counters.best_score, counters.best_epoch, counters.worse = score, counters.epoch + 1, 0
            return
        counters.worse += 1
        counters.stopped_early = bool(options.patience) and counters.worse >= options.patience

    def save_checkpoint(self) -> Path:
        """Write everything that a resumed run needs, atomically, and return the file."""
        path = self.run_dir / STATE_FILE
        save_run_state(path, snapshot(self.learner, self.counters, self.record()))
        write_json(self.run_dir / HISTORY_FILE, self.counters.history)
        return path

    def load_checkpoint(self, path: Path | None = None) -> None:
        """Go on from a checkpoint: a file, a run's folder, or this run's own.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is damaged, or of a run with other options or data; all differences are named.
        """
        path = Path(path or self.run_dir)
        path = path / STATE_FILE if path.is_dir() else path
        state = load_run_state(path)
        changed = differences(state.values["record"], self.record())
        if changed:
            raise ValueError(
                f"{path} is of another run; start anew in another folder, or resume with what it was begun "
                "with:\n  " + "\n  ".join(changed)
            )
        self.counters = restore(state, self.learner)

    def _prepare(self) -> None:
        if not self._prepared:
            # Whether targets are built or were cached must not shift training's random numbers.
            with preserved_random_state():
                self.stage.prepare(self.fabric.device, self.log.say)
            self._prepared = True

    def _announce(self) -> None:
        options, counters = self.options, self.counters
        self.log.say(self.summary)
        for name, value in self.stage.counts().items():
            self.log.say(f"{name}: {value}")
        if not len(self.stage.validation_samples) and not self.validator:
            self.log.say("no validation patients: no early stopping, and the best adapter is the last")
        size = f"{options.epochs} epochs of {self.batches_per_epoch} batches ({self.total_steps} steps)"
        where = f"{self.fabric.device.type}, precision {self.precision}, seed {options.seed}"
        self.log.say(f"up to {size} on {where}, into {self.run_dir}")
        if counters.step or counters.position:
            place = f"epoch {counters.epoch + 1}, batch {counters.position + 1}, step {counters.step + 1}"
            self.log.say(f"resumed at {place}")

    def _result(self) -> TrainResult:
        counters = self.counters
        rows = [row for row in counters.history if row["epoch"] == counters.best_epoch]
        return TrainResult(
            best=self.run_dir / BEST,
            last=self.run_dir / LAST,
            metrics=dict(rows[0]["validation"]) if rows else {},
            epochs=counters.epoch,
            steps=counters.step,
            stopped_early=counters.stopped_early,
            interrupted=not counters.finished,
        )
