"""Peak memory of a training step: estimated before training, and measured after.

The estimate follows one step (forward, backward, AdamW) over fake tensors, which have a shape, a dtype and a device but
no numbers, and adds up what lives at the same time. So it knows of checkpointing, autocast, a half-precision base and
LoRA without a formula for any of them, and takes no memory for weights or activations. Tensors that are real, such as
voxel coordinates, stay so: what depends on their values is computed. A loss that looks at values which the network made
(the surface extraction does) can't be followed so; then one real step is followed, which leaves no trace. So it is with
a small network, where a real step is quicker.
"""

import copy
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
)

from sam3d_objects.process_memory import MemorySince
from sam3d_objects.training.live_bytes import LiveBytes, stored_bytes
from sam3d_objects.training.randomness import preserved_random_state

MIB, GIB = 2**20, 2**30
# Weights of a network of which a real step takes less time than a fake one: 0.2 ms an operation.
SMALL_BYTES = 32 * MIB

Forward = Callable[[nn.Module], Tensor]


def readable_bytes(size: int) -> str:
    """Return a size for people, in GiB or MiB."""
    return f"{size / GIB:.2f} GiB" if size >= GIB else f"{size / MIB:.1f} MiB"


@dataclass(frozen=True)
class MemoryEstimate:
    """What one training step of one process takes, in bytes; each part at its own largest.

    Attributes:
        parameters: weights and buffers of the trained module, frozen ones included.
        gradients: of what trains.
        optimizer: AdamW's two averages of what trains.
        activations: the most that forward and backward pass hold at once beside weights and gradients.
        step: the most that lives at once beside the weights; less than the sum where parts don't meet.
        beside: what the device held already beside the module: frozen modules, averaged weights, batches.
        numbers, trained: counts of the module's parameters, and of those that train.
        real: a real step was followed.
    """

    parameters: int
    gradients: int
    optimizer: int
    activations: int
    step: int
    numbers: int
    trained: int
    beside: int = 0
    real: bool = False

    @property
    def peak(self) -> int:
        """The most that is needed at once."""
        return self.parameters + self.step + self.beside

    def describe(self) -> str:
        """Return the derivation for people, a part a line."""
        rows = [
            ("weights", self.parameters, f"{self.numbers / 1e6:,.1f} M numbers"),
            ("gradients", self.gradients, f"of the {self.trained / 1e6:,.2f} M that train"),
            ("optimiser", self.optimizer, "AdamW's two averages of these"),
            ("activations", self.activations, "the most at once in forward and backward"),
            ("beside", self.beside, "already on the device"),
            ("peak", self.peak, "the most at once" + (", from a real step" if self.real else "")),
        ]
        lines = [f"  {name:<12}{readable_bytes(size):>12}  {what}" for name, size, what in rows if size]
        return "\n".join(["memory of a training step, estimated", *lines])

    def compared(self, used: int | None) -> str:
        """Return a line for people that compares the peak with what `StepMemory.used` gave."""
        estimated = f"memory of a training step: {readable_bytes(self.peak)} estimated"
        if used is None:
            return f"{estimated}; this device does not tell what was used"
        return f"{estimated}, {readable_bytes(used)} used ({used / self.peak - 1:+.0%})"


class StepMemory:
    """Estimates and measures the memory of training steps.

    The loop calls it so, on `stage.module` after adapters, the optimiser's weight average and checkpointing are in
    place, and before `fabric.setup` and `torch.compile` wrap it (shards of FSDP and compiled kernels take less):

        memory = StepMemory(stage.module, fabric.device)

        def forward(network):  # of one batch that is on the device already
            with fabric.autocast():
                return stage.loss(network, batch, draws)[0]

        estimate = memory.estimate(forward)
        say(estimate.describe())
        memory.begin()  # before the first step
        ...  # some steps; validation and sampling are not part of it
        say(estimate.compared(memory.used()))

    Args:
        module: what is trained, on the device (or on the meta device, for an estimate alone).
        device: where it is trained.
    """

    def __init__(self, module: nn.Module, device: torch.device) -> None:
        self.module, self.device = module, torch.device(device)
        self._process: MemorySince | None = None

    @property
    def _own(self) -> list[Tensor]:
        return [*self.module.parameters(), *self.module.buffers()]

    def estimate(self, forward: Forward) -> MemoryEstimate:
        """Return what one optimiser step of one batch takes; it takes a second or a few.

        The module is put in training mode; its weights and the global random generators stay as they are.

        Args:
            forward: maps a network like the module to the loss, a scalar. It is called with a copy of the module on
                fake tensors, or with the module itself where it looks at values.
        """
        assert all(p.grad is None for p in self.module.parameters()), "call it before the first backward pass"
        trained = [p for p in self.module.parameters() if p.requires_grad]
        self.module.train()
        with preserved_random_state():
            live = self._followed_shapes(forward)
            real = live is None
            live = live or _follow(forward, self.module)
        optimizer, update = _follow_update(trained, self.device)
        return MemoryEstimate(
            parameters=stored_bytes(self._own),
            gradients=stored_bytes(trained),
            optimizer=optimizer,
            activations=live.peak_without,
            step=max(live.peak + optimizer, update),
            numbers=sum(p.numel() for p in self.module.parameters()),
            trained=sum(p.numel() for p in trained),
            beside=self._beside(),
            real=real,
        )

    def _followed_shapes(self, forward: Forward) -> LiveBytes | None:
        """Follow a step without numbers; None where numbers are needed, or quicker."""
        if stored_bytes(self._own) < SMALL_BYTES and not any(tensor.is_meta for tensor in self._own):
            return None
        with suppress(DataDependentOutputException, DynamicOutputShapeException):
            return _follow(forward, _fake_copy(self.module, self.device))
        return None

    def _beside(self) -> int:
        if self.device.type != "cuda":
            return 0
        own = stored_bytes(tensor for tensor in self._own if tensor.is_cuda)
        return max(0, torch.cuda.memory_allocated(self.device) - own)

    def begin(self) -> None:
        """Start measuring: the peak from now on counts."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        elif self.device.type == "cpu":
            self._process = MemorySince()

    def used(self) -> int | None:
        """Return the peak since `begin`, in bytes, to be compared with `MemoryEstimate.peak`.

        On a GPU what torch had allocated. On a CPU by how much the process grew, plus the module's weights; other
        threads and what the allocator keeps count too. None where the device, or the system, does not tell.
        """
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        growth = self._process.growth_bytes() if self._process else None
        return None if growth is None else growth + stored_bytes(self._own)


def _fake_copy(module: nn.Module, device: torch.device) -> nn.Module:
    """Copy a module without copying a weight: parameters and buffers are fake tensors on the device."""
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    copies: dict[int, Tensor] = {}
    with mode:
        for tensor in chain(module.parameters(), module.buffers()):
            fake = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=device)
            wanted = tensor.requires_grad
            copies[id(tensor)] = nn.Parameter(fake, wanted) if isinstance(tensor, nn.Parameter) else fake
    return copy.deepcopy(module, dict(copies))


def _follow(forward: Forward, network: nn.Module) -> LiveBytes:
    """Run forward and backward pass and say what lived; the network's gradients are dropped."""
    trained = [p for p in network.parameters() if p.requires_grad]
    live = LiveBytes()
    hooks = [p.register_post_accumulate_grad_hook(partial(_set_apart, live)) for p in trained]
    try:
        with live:
            loss = forward(network)
            assert isinstance(loss, FakeTensor) == isinstance(trained[0], FakeTensor), "the loss is another network's"
            loss.backward()
    finally:
        for hook in hooks:
            hook.remove()
        for parameter in trained:
            parameter.grad = None
    return live


def _set_apart(live: LiveBytes, parameter: Tensor) -> None:
    assert parameter.grad is not None
    live.set_apart(parameter.grad)


def _follow_update(trained: Iterable[Tensor], device: torch.device) -> tuple[int, int]:
    """Return AdamW's state, and the most that lives during its step, gradients included, both in bytes."""
    live = LiveBytes()
    # Nothing here depends on more than shapes, and the meta device is quicker than fake tensors.
    copies = [torch.empty_like(p, device="meta").requires_grad_() for p in trained]
    with live:
        for parameter in copies:
            parameter.grad = torch.empty_like(parameter)
        optimizer = torch.optim.AdamW(copies, foreach=device.type == "cuda")  # as it chooses by itself there
        optimizer.step()
    return stored_bytes(value for state in optimizer.state.values() for value in state.values()), live.peak
