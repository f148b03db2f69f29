"""The counters of a run, and turning a trainer's whole state into a checkpoint and back."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from sam3d_objects.training.checkpoint import RunState, optimizer_tensors, restore_optimizer
from sam3d_objects.training.learner import Learner
from sam3d_objects.training.sharding import spread_as, whole


@dataclass
class Counters:
    """Where a run is.

    Attributes:
        epoch, position: the epoch (from 0) and how many of its batches are done.
        step: optimiser steps done.
        sums: sums over the epoch's samples of the loss and its parts; samples: how many.
        best_score: the best validation score (higher is better), None before the first; best_epoch: where.
        worse: validations since the best one.
        stopped_early, finished: how it ended.
        history: one row an epoch.
    """

    epoch: int = 0
    position: int = 0
    step: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    samples: int = 0
    best_score: float | None = None
    best_epoch: int | None = None
    worse: int = 0
    stopped_early: bool = False
    finished: bool = False
    history: list[dict[str, Any]] = field(default_factory=list)

    def add(self, parts: Mapping[str, float], samples: int) -> None:
        """Add one batch's means to the epoch's sums."""
        for name, value in parts.items():
            self.sums[name] = self.sums.get(name, 0.0) + value * samples
        self.samples += samples

    def means(self) -> dict[str, float]:
        """Return the epoch's means so far."""
        return {name: value / self.samples for name, value in self.sums.items()}

    def next_epoch(self) -> None:
        """Begin the next epoch."""
        self.epoch, self.position, self.sums, self.samples = self.epoch + 1, 0, {}, 0


def snapshot(learner: Learner, counters: Counters, record: Mapping[str, Any]) -> RunState:
    """Return all that a run needs to go on exactly, waiting gradients included; every process calls it.

    Random numbers are no part of it: they are drawn anew from the seed and the counters.
    """
    waiting = {name: p.grad for name, p in learner.parameters.items() if p.grad is not None}
    tensors: dict[str, Mapping[str, Tensor]] = {
        "parameter": {name: p.detach() for name, p in learner.parameters.items()},
        "optimizer": optimizer_tensors(learner.optimizer, learner.names),
        "gradient": waiting,
        "average": learner.average.average if learner.average else {},
    }
    values = {
        "counters": dataclasses.asdict(counters),
        "average_updates": learner.average.updates if learner.average else 0,
        "scaler": learner.scaler.state_dict() if learner.scaler else {},
        "record": record,
    }
    return RunState({group: {k: whole(v) for k, v in members.items()} for group, members in tensors.items()}, values)


def restore(state: RunState, learner: Learner) -> Counters:
    """Put a snapshot back into a learner that was built alike, and return the counters.

    Raises:
        ValueError: parameters are missing, extra or of another shape; the message names them.
    """
    saved = state.tensors.get("parameter", {})
    _check_parameters(saved, learner.parameters)
    gradients = state.tensors.get("gradient", {})
    with torch.no_grad():
        for name, parameter in learner.parameters.items():
            parameter.copy_(spread_as(saved[name], parameter))
            parameter.grad = spread_as(gradients[name], parameter) if name in gradients else None
    restore_optimizer(learner.optimizer, learner.names, state.tensors.get("optimizer", {}))
    if learner.average:
        for name, value in state.tensors["average"].items():
            learner.average.average[name].copy_(spread_as(value, learner.average.average[name]))
        learner.average.updates = state.values["average_updates"]
    if learner.scaler:
        learner.scaler.load_state_dict(state.values["scaler"])
    return Counters(**state.values["counters"])


def restore_moments(state: RunState, learner: Learner) -> None:
    """Put the optimiser's moments of a snapshot into a learner of the same parameters; ValueError as in `restore`."""
    _check_parameters(state.tensors.get("parameter", {}), learner.parameters)
    restore_optimizer(learner.optimizer, learner.names, state.tensors.get("optimizer", {}))


def _check_parameters(saved: Mapping[str, Tensor], parameters: Mapping[str, nn.Parameter]) -> None:
    problems = [f"missing {name}" for name in sorted(parameters.keys() - saved.keys())]
    problems += [f"extra {name}" for name in sorted(saved.keys() - parameters.keys())]
    problems += [
        f"{name}: the run has {tuple(saved[name].shape)}, the model {tuple(parameters[name].shape)}"
        for name in sorted(saved.keys() & parameters.keys())
        if saved[name].shape != parameters[name].shape
    ]
    if problems:
        raise ValueError(
            f"the checkpoint is of another model ({len(problems)} differences): {'; '.join(problems[:10])}"
        )
