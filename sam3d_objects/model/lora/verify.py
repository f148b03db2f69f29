"""Proof, after some training steps, that the base is as it was, adapters moved and gradients reach all of them."""

from dataclasses import dataclass

import torch
from torch import nn

from sam3d_objects.model.lora.frame import LEAVES
from sam3d_objects.model.lora.paths import collapse_paths
from sam3d_objects.model.lora.reference import base_tensors, checksum, remembered
from sam3d_objects.model.lora.walk import has_lora, lora_layers


@dataclass(frozen=True)
class Verification:
    """Names of tensors (as in the base, for those of the base) with what is wrong with them.

    Attributes:
        base_changed: frozen, and yet other than when the adapters went in.
        unmoved: trainable, and as they were at injection or loading.
        without_gradient: trainable, and no gradient, or only zeros, reached them in the last backward pass.
        reasons: one sentence for each thing that is wrong; empty if nothing is.
        checked: how many tensors of the base were compared.
    """

    base_changed: tuple[str, ...]
    unmoved: tuple[str, ...]
    without_gradient: tuple[str, ...]
    reasons: tuple[str, ...]
    checked: int

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.reasons

    def require(self) -> None:
        """Raise ValueError with the reasons, unless all is well."""
        if self.reasons:
            raise ValueError(f"the fine-tuning is not sound; {'; '.join(self.reasons)}")


def verify(model: nn.Module, *, verbose: bool = True) -> Verification:
    """Check a model after training steps: base unchanged, what may move has moved, gradients reach all of it.

    Call it after at least two steps (in the first, A has no gradient, for B is zero) and before the gradients are
    cleared. It compares with what injection or loading remembered; running statistics of frozen norms count as base.

    Args:
        model: with adapters.
        verbose: print the findings, with the reason for each that is bad.

    Raises:
        ValueError: the model has no adapter, or nothing of it was remembered.
    """
    before = remembered(model)
    if not has_lora(model):
        raise ValueError("the model has no adapter to verify (or it is merged)")
    if not before:
        raise ValueError("nothing was remembered of this model: inject by inject_lora, or call remember(model) first")
    trainable = {id(p) for p in model.parameters() if p.requires_grad}
    own, changed, unmoved, checked, blind = _own_buffers(model), [], [], 0, []
    for name, tensor in base_tensors(model):
        former, now = before.get(name), checksum(tensor)
        if former is None or now is None:
            blind.append(name)
        elif id(tensor) in trainable:
            unmoved += [name] if former == now else []
        elif not (isinstance(tensor, nn.Parameter) and name.rpartition(".")[2] in LEAVES):
            checked += 1
            if former != now and id(tensor) not in own:
                changed.append(name + (f" (cast from {former[0]} to {now[0]})" if former[0] != now[0] else ""))
    dry = [name for name, p in model.named_parameters() if p.requires_grad and not _has_gradient(p)]
    reasons = _reasons(model, changed, unmoved, dry, checked)
    found = Verification(tuple(changed), tuple(unmoved), tuple(dry), tuple(reasons), checked)
    if verbose:
        print(_text(found, len(trainable), len(blind)))
    return found


def _own_buffers(model: nn.Module) -> set[int]:
    """Return the ids of buffers whose owners train: running statistics that are saved with an adapter."""
    return {
        id(buffer)
        for module in model.modules()
        if any(p.requires_grad for p in module.parameters(recurse=False))
        for name, buffer in module.named_buffers(recurse=False)
        if name not in LEAVES
    }


def _has_gradient(parameter: nn.Parameter) -> bool:
    gradient = parameter.grad
    return gradient is not None and bool(torch.count_nonzero(gradient))


def _reasons(model: nn.Module, changed: list[str], unmoved: list[str], dry: list[str], checked: int) -> list[str]:
    """Return a sentence for each thing that is wrong, with its likely cause."""
    reasons = []
    if changed:
        reasons.append(
            f"the base changed: {_some(changed)} (an optimizer that holds frozen parameters, running statistics in "
            "training mode, or a cast)"
        )
    if not checked:
        reasons.append("no tensor of the base could be compared")
    off = [path for path, layer in lora_layers(model).items() if not layer.enabled]
    missing = [name for name in dry if model.get_parameter(name).grad is None]
    zero = [name for name in dry if name not in set(missing)]
    trainable = sum(p.requires_grad for p in model.parameters())
    if not trainable:
        reasons.append("nothing is trainable: no adapter is in use, or freeze_base_params was not called")
    elif off:
        reasons.append(f"adapters are disabled: {_some(off)}")
    elif len(missing) == trainable:
        reasons.append("no parameter holds a gradient: call verify after backward() and before zero_grad()")
    elif missing:
        reasons.append(f"no gradient reaches {_some(missing)}: the loss does not depend on them, or they are detached")
    if zero:
        reasons.append(
            f"only zero gradients reach {_some(zero)} (of a fresh adapter A has none before the second step, B being 0)"
        )
    if unmoved:
        reasons.append(
            f"these did not move: {_some(unmoved)} (no step was taken, no gradient, or the optimizer lacks them)"
        )
    return reasons


def _some(names: list[str]) -> str:
    listed = collapse_paths(names)
    return ", ".join(listed[:6]) + (f" and {len(listed) - 6} more" if len(listed) > 6 else "")


def _text(found: Verification, trainable: int, blind: int) -> str:
    moved, fed = trainable - len(found.unmoved), trainable - len(found.without_gradient)
    lines = [
        f"base unchanged: {found.checked - len(found.base_changed)} of {found.checked} tensors",
        f"moved: {moved} of {trainable} trainable tensors",
        f"reached by a gradient: {fed} of {trainable} trainable tensors",
    ]
    lines += [f"not compared (no bytes to see): {blind}"] if blind else []
    return "\n".join([*lines, *(f"WRONG: {reason}" for reason in found.reasons)])
