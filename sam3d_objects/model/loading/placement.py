"""Where a model is to be, and in which precision, as a person says it."""

import torch

# By the names that pipeline.yaml writes.
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
AUTO, CPU, CUDA, MPS = "auto", "cpu", "cuda", "mps"


def parse_dtype(dtype: torch.dtype | str) -> torch.dtype:
    """Return torch's dtype of a name; a dtype stays what it is.

    Raises:
        ValueError: it is none that weights are kept in.
    """
    found = DTYPES.get(dtype) if isinstance(dtype, str) else dtype
    if found is None or found not in DTYPES.values():
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, or torch's of that name, got {dtype!r}")
    return found


def chosen_device(device: str) -> str:
    """Return torch's name of the device that a person asked for; `auto` is a CUDA GPU where there is one, else the CPU.

    It is the one rule of training and of every command. Whether the device is there, who uses it finds out.

    Raises:
        ValueError: it is mps.
    """
    _refuse_mps(device)
    if device != AUTO:
        return device
    return CUDA if torch.cuda.is_available() else CPU


def parse_device(device: str) -> torch.device:
    """Return torch's device of a name.

    Raises:
        ValueError: torch knows no such device, this machine has none, or it is mps; those that it has are named.
    """
    _refuse_mps(device)
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    # RuntimeError: no driver, no such GPU, no such name; the others: a torch that was built without it.
    except (RuntimeError, AssertionError, ImportError, NotImplementedError, TypeError) as error:
        raise ValueError(
            f"device {device!r} is unknown, or this machine or this torch has none; give one of "
            f"{', '.join(available_devices())} (`sam3d-med doctor` tells more)"
        ) from error
    return found


def available_devices() -> list[str]:
    """The devices of this machine that a model can be on."""
    return [CPU, *(f"{CUDA}:{index}" for index in range(torch.cuda.device_count()))]


def _refuse_mps(device: object) -> None:
    # Surfaces are float64, in training targets as in reconstruction, and MPS has no such numbers.
    if str(device).partition(":")[0] == MPS:
        raise ValueError(f"device {device!r}: Apple's MPS has no float64, which surfaces are computed in; use {CPU}")
