"""What learns, and how a step is taken: the same for one process and for several."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from sam3d_objects.training.compiling import compile_network
from sam3d_objects.training.ema import WeightAverage
from sam3d_objects.training.options import LoopOptions
from sam3d_objects.training.sharding import whole, whole_weights


class Learner:
    """A network, its trained parameters, their optimiser, their average and loss scaler (where wanted).

    Args:
        fabric: launched.
        module: with its adapters; it is set up in place and keeps its names. Something in it is trainable.
        options: of the loop.
    """

    def __init__(self, fabric: Fabric, module: nn.Module, options: LoopOptions) -> None:
        self.fabric, self.module, self.clip_norm = fabric, module, options.clip_norm
        self.network = fabric.setup_module(compile_network(module) if options.compile else module)
        # Only now: sharding puts other parameters in the place of those that were there.
        self.parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
        groups = [
            {"params": [p for p in self.parameters.values() if p.ndim >= 2], "weight_decay": options.weight_decay},
            {"params": [p for p in self.parameters.values() if p.ndim < 2], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW([g for g in groups if g["params"]], lr=options.lr, betas=options.betas)
        wrapped = fabric.setup_optimizers(self.optimizer)
        assert not isinstance(wrapped, tuple), "one optimiser comes back as one"
        self._fabric_optimizer = wrapped
        self.average = WeightAverage(self.parameters, options.ema_decay) if options.ema_decay else None
        self.scaler: torch.amp.GradScaler | None = getattr(fabric.strategy.precision, "scaler", None)

    @property
    def names(self) -> dict[Tensor, str]:
        """Parameter -> its name."""
        return {parameter: name for name, parameter in self.parameters.items()}

    def backward(self, loss: Tensor, share: float) -> None:
        """Add the gradient of a loss to what is there.

        Args:
            loss: the mean over this process's samples.
            share: what part of the step's samples, of all processes, it stands for.
        """
        # The processes' gradients are averaged, in every backward pass: what waits for the rest of an accumulation is
        # then alike in all of them, and goes into a checkpoint as it is.
        self.fabric.backward(loss * (share * self.fabric.world_size))

    def clip(self) -> float:
        """Clip the gradient and return its norm before."""
        norm = self.fabric.clip_gradients(
            self.network,
            self._fabric_optimizer,
            max_norm=self.clip_norm or math.inf,
            error_if_nonfinite=False,
        )
        assert norm is not None, "Fabric returns the norm when it clips by norm"
        return float(whole(norm.detach()))

    def step(self, lr: float) -> None:
        """Take a step of AdamW, drop the gradient, and update the average."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self._fabric_optimizer.step()
        self._fabric_optimizer.zero_grad(set_to_none=True)
        if self.average:
            self.average.update()

    @contextmanager
    def saved_weights(self) -> Iterator[None]:
        """Let the module carry, inside the block, the weights that are validated and saved."""
        if self.average is None:
            yield
            return
        with self.average.applied():
            yield

    @contextmanager
    def whole_saved_weights(self) -> Iterator[None]:
        """Let the module carry them whole, as ordinary tensors, to be written; every process enters it."""
        with self.saved_weights(), whole_weights(self.module):
            yield
