"""Counting the bytes of tensors while they live."""

import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """While it is active, follow every storage that an operation makes, from there until nobody holds it.

    Fake tensors (`torch._subclasses.fake_tensor`) count as what they stand for. What a kernel needs inside is not
    seen, and neither is what an allocator keeps for later.

    Attributes:
        now: bytes of the storages that were made since and still live.
        peak: the most that `now` has been.
        apart: bytes of these that are counted elsewhere (see `set_apart`).
        peak_without: the most that `now - apart` has been.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = self.apart = self.peak_without = 0
        self._known: dict[int, weakref.finalize] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation and follow what it returns; what it was given existed before, if it is not known."""
        for tensor in _tensors((args, kwargs)):
            self._follow(tensor, 0)
        out = func(*args, **(kwargs or {}))
        for tensor in _tensors(out):
            self._follow(tensor, tensor.untyped_storage().nbytes())
        return out

    def set_apart(self, tensor: Tensor) -> None:
        """Count a tensor's storage, such as a finished gradient's, as one of those counted elsewhere."""
        self.apart += tensor.untyped_storage().nbytes()

    def _follow(self, tensor: Tensor, size: int) -> None:
        storage = tensor.untyped_storage()
        key = id(storage)  # a storage keeps its Python object for as long as any tensor has it
        if key in self._known:
            return
        self._known[key] = weakref.finalize(storage, self._forget, key, size)
        self._known[key].atexit = False
        self.now += size
        self.peak = max(self.peak, self.now)
        self.peak_without = max(self.peak_without, self.now - self.apart)

    def _forget(self, key: int, size: int) -> None:
        self.now -= size
        del self._known[key]


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor) and leaf.layout == torch.strided]


def stored_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes that tensors take, each storage once; also of tensors on the meta device and of quantised ones."""
    sizes: dict[int, tuple[object, int]] = {}
    for tensor in tensors:
        for part in _parts(tensor):
            storage = part.untyped_storage()
            sizes[id(storage)] = storage, storage.nbytes()  # held, so that no other one gets its id
    return sum(size for _, size in sizes.values())


def _parts(tensor: Tensor) -> list[Tensor]:
    """The plain tensors that a tensor consists of: an 8-bit weight is numbers and scales."""
    flatten = getattr(tensor, "__tensor_flatten__", None)
    if flatten is None:
        return [tensor]
    names, _ = flatten()
    return [part for name in names for part in _parts(getattr(tensor, name))]
