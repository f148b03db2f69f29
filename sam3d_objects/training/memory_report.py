"""Telling people what memory a step will take, and afterwards what it took."""

from collections.abc import Iterable

from lightning_fabric import Fabric
from torch import Tensor, nn

from sam3d_objects.training.feed import Portion
from sam3d_objects.training.memory import MemoryEstimate, StepMemory
from sam3d_objects.training.sharding import sharded
from sam3d_objects.training.stage import Say, Stage

_WORTH_TELLING_BYTES = 2**20
_REUSED = "; on a CPU the process takes pages again that it had before, so that less is seen than is used"


class MemoryReport:
    """Estimates from a first batch, measures the first epoch's steps, compares at the end.

    It keeps silent where weights are spread over processes, and for a network of less than a mebibyte: the process
    around that takes more.

    Args:
        stage: prepared, on the device.
        fabric: launched.
        say: tells people.
    """

    def __init__(self, stage: Stage, fabric: Fabric, say: Say) -> None:
        self.stage, self.fabric, self.say = stage, fabric, say
        self._steps = StepMemory(stage.module, fabric.device)
        self._estimate: MemoryEstimate | None = None
        self._used: int | None = None
        self._measured = False

    def begin(self, portions: Iterable[Portion]) -> None:
        """Tell the estimate for the first portion, and measure from now on."""
        weights = sum(p.numel() * p.element_size() for p in self.stage.module.parameters())
        if sharded(self.stage.module) or weights < _WORTH_TELLING_BYTES:
            return
        portion = next(iter(portions))

        def forward(network: nn.Module) -> Tensor:
            with self.fabric.autocast():
                return self.stage.loss(network, portion.batch, portion.draws)[0]

        self._estimate = self._steps.estimate(forward)
        self.say(self._estimate.describe())
        self._steps.begin()

    def measure(self) -> None:
        """Note what the steps up to now took; the first call counts."""
        if not self._measured:
            self._used, self._measured = self._steps.used(), True

    def compare(self) -> None:
        """Tell how the estimate fared, if steps were measured."""
        if self._estimate and self._measured:
            on_cpu = self._estimate.real and self.fabric.device.type == "cpu"
            self.say(self._estimate.compared(self._used) + (_REUSED if on_cpu else ""))
