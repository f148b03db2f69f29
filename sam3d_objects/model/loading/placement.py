"""Where a model is to be, and in which precision, as a person says it."""

import torch

# By the names that pipeline.yaml writes.
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def parse_dtype(dtype: torch.dtype | str) -> torch.dtype:
    """Return torch's dtype of a name; a dtype stays what it is.

    Raises:
        ValueError: it is none that weights are kept in.
    """
    found = DTYPES.get(dtype) if isinstance(dtype, str) else dtype
    if found is None or found not in DTYPES.values():
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, or torch's of that name, got {dtype!r}")
    return found


def parse_device(device: str) -> torch.device:
    """Return torch's device of a name.

    Raises:
        ValueError: torch knows no such device, or this machine has none; those that it has are named.
    """
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
    """The devices that torch can use on this machine."""
    gpus = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    return ["cpu", *gpus, *["mps"] * torch.backends.mps.is_available()]
