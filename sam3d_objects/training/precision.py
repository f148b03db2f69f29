"""Which device, and which precision it can do."""

import torch
from lightning_fabric.plugins.precision import MixedPrecision, Precision

from sam3d_objects.model.loading.placement import chosen_device


class MixedPrecisionKeepsInputs(MixedPrecision):
    """Mixed precision whose inputs stay float32.

    Fabric's own rounds every input to bf16 before the forward pass. That would round the time (0 to 1000, to
    steps of 4) and the noised latents, so that the network would be told another time than the one the loss
    was made with.
    """

    def convert_input(self, data: object) -> object:
        """Return the inputs as they are; autocast casts where an operation wants it."""
        return data


def resolve_precision(precision: str, kind: str) -> str:
    """Return 32, bf16 or 16 for a precision and a kind of device; `auto` is the best mixed one on a GPU, else 32.

    Raises:
        ValueError: the device cannot do it.
    """
    if precision == "auto":
        half = "bf16" if kind == "cuda" and torch.cuda.is_bf16_supported() else "16"
        return half if kind == "cuda" else "32"
    if precision == "16" and kind != "cuda":
        raise ValueError(f"precision 16 needs a CUDA GPU, the device is {kind}: use bf16 or 32")
    return precision


def precision_plugin(precision: str, kind: str) -> Precision:
    """Return what Fabric does for a precision: 32, bf16 or 16."""
    if precision == "32":
        return Precision()
    return MixedPrecisionKeepsInputs("bf16-mixed" if precision == "bf16" else "16-mixed", kind)


def resolve_device(device: str) -> tuple[str, int]:
    """Return (`cpu` or `cuda`, index) for a name that a person gave; `auto` is what it is for every command.

    Raises:
        ValueError: the device is unknown, this machine or this torch has none, or it is mps.
    """
    counts = {"cuda": torch.cuda.device_count(), "cpu": 1}
    kind, _, index = chosen_device(device).partition(":")
    number = int(index) if index.isdecimal() else (0 if not index else -1)
    if not 0 <= number < counts.get(kind, 0):
        present = [name for name, count in counts.items() if count]
        raise ValueError(f"device {device!r} is not here; this torch offers: auto, {', '.join(present)}")
    return kind, number
