"""Random numbers that do not depend on history.

Each use of randomness gets a generator of its own, seeded from (seed, purpose, counters). A resumed run
therefore draws what an uninterrupted one draws, without replaying anything. Libraries that use the global
generators (dropout does) are covered by saving and restoring those.
"""

import hashlib
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

_SEED_BITS = 63  # torch.Generator.manual_seed takes a signed 64-bit integer


def derive_seed(seed: int, purpose: str, *counters: int) -> int:
    """Return a 63-bit seed for one purpose, e.g. ``derive_seed(0, "noise", epoch, batch)``."""
    text = ":".join([str(seed), purpose, *(str(counter) for counter in counters)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> (64 - _SEED_BITS)


def torch_generator(seed: int, purpose: str, *counters: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a fresh torch generator for one purpose."""
    return torch.Generator(device).manual_seed(derive_seed(seed, purpose, *counters))


def seed_global_generators(seed: int) -> None:
    """Seed the global generators of torch (all devices), NumPy and Python."""
    torch.manual_seed(derive_seed(seed, "torch"))
    np.random.seed(derive_seed(seed, "numpy") % 2**32)
    random.seed(derive_seed(seed, "python"))


def global_random_state() -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the state of the global generators as (tensors, JSON values)."""
    _, keys, position, has_gauss, cached_gaussian = np.random.get_state(legacy=True)
    version, python_words, python_gauss = random.getstate()
    tensors = {
        "torch": torch.get_rng_state(),
        "numpy": torch.from_numpy(np.asarray(keys).astype(np.int64)),
        "python": torch.tensor(python_words, dtype=torch.int64),
    }
    if torch.cuda.is_available():
        tensors |= {f"cuda.{i}": state for i, state in enumerate(torch.cuda.get_rng_state_all())}
    values = {
        "numpy": [int(position), int(has_gauss), float(cached_gaussian)],
        "python": [version, python_gauss],
    }
    return tensors, values


def set_global_random_state(tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
    """Restore what `global_random_state` returned."""
    torch.set_rng_state(tensors["torch"])
    position, has_gauss, cached_gaussian = values["numpy"]
    keys = tensors["numpy"].numpy().astype(np.uint32)
    np.random.set_state(("MT19937", keys, position, has_gauss, cached_gaussian))
    version, python_gauss = values["python"]
    random.setstate((version, tuple(tensors["python"].tolist()), python_gauss))
    for i in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        if f"cuda.{i}" in tensors:
            torch.cuda.set_rng_state(tensors[f"cuda.{i}"], i)


@contextmanager
def preserved_random_state() -> Iterator[None]:
    """Put the global generators back afterwards, so that what happens inside leaves no trace in training."""
    tensors, values = global_random_state()
    try:
        yield
    finally:
        set_global_random_state(tensors, values)
