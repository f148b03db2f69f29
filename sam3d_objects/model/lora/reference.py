"""What a model's tensors were when its adapters went in, as checksums: the reference that `verify` compares with."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from sam3d_objects.model.lora.frame import LEAVES
from sam3d_objects.model.lora.walk import lora_layers

_KEY = "_lora_reference"
_ROW = 4096

Checksum = tuple[str, tuple[int, ...], int, int]
"""dtype, shape, and two sums over the bytes as integers."""


def checksum(tensor: Tensor) -> Checksum | None:
    """Return a checksum of a tensor's bytes that any one change alters, fast and on the tensor's own device.

    None where the bytes can't be seen: on the meta device, and of tensors that are spread over processes or quantised.
    """
    data = tensor.detach()
    if type(data) not in (Tensor, nn.Parameter) or data.is_meta:
        return None
    flat = data.contiguous().view(-1).view(torch.uint8)
    words = flat[: len(flat) // 4 * 4].view(torch.int32)
    plain = int(words.sum(dtype=torch.int64)) + int(flat[len(words) * 4 :].sum(dtype=torch.int64))
    # Weighted by position, for a plain sum does not see two numbers that change places.
    weighted = 0
    for start in range(0, len(words), _ROW * _ROW):
        part = words[start : start + _ROW * _ROW]
        rows = part[: len(part) // _ROW * _ROW].view(-1, _ROW).sum(1, dtype=torch.int64)
        columns = part[: len(part) // _ROW * _ROW].view(-1, _ROW).sum(0, dtype=torch.int64)
        for sums in (rows, columns, part[len(rows) * _ROW :].to(torch.int64)):
            places = torch.arange(1, len(sums) + 1, device=sums.device)
            weighted = (weighted * 31 + int((sums * places).sum())) % 2**61
    return str(data.dtype), tuple(data.shape), plain, weighted


def base_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield every parameter and saved buffer by the name that it has in the base; those of adapters by their own."""
    state = model.state_dict(keep_vars=True)
    layers = lora_layers(model)
    for name, tensor in state.items():
        owner = next((path for path in _parents(name) if path in layers), None)
        if owner is None:
            yield name, tensor
            continue
        short = name.removeprefix(f"{owner}.")
        own = short in LEAVES or short.startswith("adapters.")
        yield (name if own else f"{owner}.{layers[owner].base_leaf(short)}".lstrip(".")), tensor


def _parents(name: str) -> Iterator[str]:
    """Yield the paths around a tensor, the innermost first; the model itself is the empty one."""
    parts = name.split(".")
    return (".".join(parts[:count]) for count in range(len(parts) - 1, -1, -1))


def remember(model: nn.Module, *, anew: bool = False) -> None:
    """Take the present tensors as what `verify` compares with.

    Injection and loading do so: for the base at the first injection only, for the adapters each time.

    Args:
        model: with adapters.
        anew: forget what was remembered of the base as well (after a cast, or a load of other weights).
    """
    former = {} if anew else dict(vars(model).get(_KEY, {}))
    frozen = {id(tensor) for tensor in model.parameters() if not tensor.requires_grad}
    frozen |= {id(buffer) for buffer in model.buffers()}
    for name, tensor in base_tensors(model):
        own = name.rpartition(".")[2] in LEAVES
        if own or name not in former or id(tensor) not in frozen:
            former[name] = checksum(tensor)
    model.__dict__[_KEY] = former


def remembered(model: nn.Module) -> dict[str, Checksum | None]:
    """Return what `remember` took, of the model or of modules in it, by the name in the base; empty if nothing."""
    found: dict[str, Checksum | None] = {}
    for path, module in model.named_modules():
        for name, value in vars(module).get(_KEY, {}).items():
            found.setdefault(f"{path}.{name}".lstrip("."), value)
    return found
