"""A site: it trains rounds on data that stays there, and gives away adapter values and a few numbers."""

import dataclasses
import hashlib
import json
import shutil
import time
from pathlib import Path

from rich.console import Console

from sam3d_objects.adapter import InferenceContract
from sam3d_objects.adapter.exchange import FROZEN_A, SVD, AdapterParameters, check_rule, check_same, get_parameters
from sam3d_objects.federated.order import Order, SiteReport
from sam3d_objects.federated.round_stage import RoundStage, SiteStage, digest
from sam3d_objects.files import write_json
from sam3d_objects.training import LoopOptions, MedicalTrainer, Stage, Validator
from sam3d_objects.training.randomness import derive_seed, seed_global_generators
from sam3d_objects.training.run_folder import STATE_FILE
from sam3d_objects.training.schedule import lr_factor

_ROUND = "round_"
_EVALUATION = "evaluation"
_OWN_DIGITS = 7  # epochs that no other site is likely to have, and no run comes to the end of


class RoundInterruptedError(RuntimeError):
    """Somebody stopped a site in the middle of a round; the same order goes on there."""


class Site:
    """One hospital's part: a stage over its own data, and a folder from which a killed round goes on.

    Every round trains with the loop that all training here uses, from the values that were sent; the learning rate
    falls along one cosine through all rounds. The optimiser's moments stay at the site from round to round (as in
    DiLoCo, Douillard et al. 2023, arXiv 2311.08105), or a short round would be over before AdamW knows its gradients;
    with `svd` it begins anew, for the average comes in another basis of B A. The site's random numbers come from the
    seed, the round and the stage's record, in which the data's fingerprint is: every site has others.

    Args:
        stage: over the site's data; its module is adapted here, alike in all sites of one seed.
        options: of the loop. Its epochs are the round's; `ema_decay` is left out, for the averaging of sites is one.
        folder: of the site's own; nothing in it leaves.
        base_fingerprint: of the base that the stage adapts; another site's adapter is refused.
        contract: how the site's slices are prepared.
        organs: what it trains on.
        rule: how the coordinator averages; with `frozen_a` only B trains.
        validator: as in `MedicalTrainer`; used by `evaluate`.
        console: where progress goes.

    Raises:
        ValueError: an unknown rule, nothing to train on, or nothing trainable.
    """

    def __init__(
        self,
        stage: Stage,
        options: LoopOptions,
        folder: Path,
        base_fingerprint: str,
        contract: InferenceContract,
        organs: tuple[str, ...],
        *,
        rule: str,
        validator: Validator | None = None,
        console: Console | None = None,
    ) -> None:
        check_rule(rule)
        self.stage = SiteStage(stage, base_fingerprint, rule == FROZEN_A)
        self.keeps_moments = rule != SVD
        self.options, self.folder = dataclasses.replace(options, ema_decay=0.0), Path(folder)
        self.contract, self.organs = contract, tuple(organs)
        self.validator, self.console = validator, console
        seed_global_generators(options.seed)
        self.stage.adapt()
        # Times, noises and slices of its own: drawn alike at all sites, they would not average out.
        self.own = hashlib.sha256(json.dumps(stage.record(), sort_keys=True).encode()).hexdigest()

    def parameters(self) -> AdapterParameters:
        """Return the adapter's values as they are, with the number of training samples behind them."""
        inner = self.stage.stage
        return get_parameters(inner.module, self.stage.base_fingerprint, len(inner.train_samples))

    def fit(self, order: Order, given: AdapterParameters) -> SiteReport:
        """Train a round and return what came of it.

        A round that was killed goes on from its last checkpoint when the same order comes again with the same values;
        one that was done is answered without training.

        Args:
            order: which round.
            given: the values that it begins with.

        Raises:
            ValueError: values of another base, rank or shape, or the folder holds an earlier round of such.
            NonFiniteLossError: the loss is not finite.
            RoundInterruptedError: somebody asked to stop.
        """
        check_same(self.parameters().manifest, given.manifest)
        folder = self.folder / f"{_ROUND}{order.round:04d}_{digest(given)[:16]}"
        began = time.monotonic()
        stage = RoundStage(self.stage, given, self._first_epoch + order.round * order.epochs)
        trainer = MedicalTrainer(stage, self._options_of(order), folder, console=self.console)
        before = self._round_before(order)
        if self.keeps_moments and before is not None and not trainer.folder.holds_a_run():
            trainer.take_moments(before)
        result = trainer.train(resume=True)
        if result.interrupted:
            raise RoundInterruptedError(f"round {order.round + 1} was stopped; {folder} goes on with it")
        self._keep_only(folder)  # Only now: until its first checkpoint a round begins with what an earlier one left.
        means = trainer.counters.history[-1]["train"]
        metrics = {name: float(value) for name, value in means.items()}
        metrics |= {"steps": float(result.steps), "seconds": round(time.monotonic() - began, 2)}
        return SiteReport(self.parameters(), self.contract, self.organs, metrics)

    def evaluate(self, given: AdapterParameters) -> dict[str, float]:
        """Return the metrics of an adapter on the site's own validation patients, and keep them in its folder.

        `samples` among them is the number of validation samples; the rest is what a validation in training measures.

        Raises:
            ValueError: values of another base, rank or shape.
        """
        check_same(self.parameters().manifest, given.manifest)
        stage = RoundStage(self.stage, given, 0, validated=True)
        trainer = MedicalTrainer(
            stage, self.options, self.folder / _EVALUATION, validator=self.validator, console=self.console
        )
        metrics = {"samples": float(len(stage.validation_samples)), **trainer.validate()}
        write_json(self.folder / f"{_EVALUATION}.json", {"given": digest(given), "metrics": metrics})
        return metrics

    def save(self, given: AdapterParameters, folder: Path, metrics: dict[str, float]) -> None:
        """Write an adapter folder with the given values, to be used at this site like any other."""
        self.stage.set(given)
        self.stage.stage.save(folder, metrics)

    @property
    def _first_epoch(self) -> int:
        return int(self.own[:_OWN_DIGITS], 16)

    def _options_of(self, order: Order) -> LoopOptions:
        """The loop's options in one round: its part of the cosine, its own random numbers, one validation less."""
        now, then = (
            lr_factor(number, 0, order.rounds, self.options.lr_floor) for number in (order.round, order.round + 1)
        )
        return dataclasses.replace(
            self.options,
            epochs=order.epochs,
            validate_every=order.epochs,
            patience=0,
            lr=self.options.lr * now,
            lr_floor=then / now,
            seed=derive_seed(self.options.seed, f"rounds of {self.own}", order.round),
        )

    def _round_before(self, order: Order) -> Path | None:
        """The folder of the last round before an order's that got as far as a checkpoint here."""
        rounds = (path.parent for path in self.folder.glob(f"{_ROUND}*/{STATE_FILE}"))
        return max((path for path in rounds if path.name < f"{_ROUND}{order.round:04d}"), default=None)

    def _keep_only(self, folder: Path) -> None:
        """Delete what other rounds left: it is as large as the adapter and its optimiser, each time."""
        for path in sorted(self.folder.glob(f"{_ROUND}*")):
            if path != folder:
                shutil.rmtree(path)
