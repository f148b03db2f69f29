"""Where the matrices of an adapter start: its update is nothing then."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sam3d_objects.model.lora.options import LayerOptions

GAUSSIAN_STD = 0.02


def start_matrices(
    tensors: Mapping[str, Tensor],
    weight: Tensor,
    options: LayerOptions,
    looked_up: bool,
    generator: torch.Generator | None,
) -> None:
    """Fill `lora_A` and `lora_B` (for PiSSA `lora_A0` and `lora_B0` as well) of an adapter, in place.

    Args:
        tensors: by short name: A (R, ...) and B (rows, r, ...).
        weight: (out, in), the base's as a matrix; only read for PiSSA.
        options: say how.
        looked_up: rows of A are looked up, as in an embedding. A is zero then, for else B would feel the rows alone
            that a batch looks up; B is drawn (as in loralib).
        generator: on the CPU; torch's global one by default.

    Raises:
        ValueError: PiSSA with a rank above that of the weight.
    """
    a, b = tensors["lora_A"], tensors["lora_B"]
    if options.init == "pissa":
        _principal(a, b, weight, options)
        tensors["lora_A0"].copy_(a)
        tensors["lora_B0"].copy_(b)
        return
    drawn, zero = (b, a) if looked_up else (a, b)
    zero.zero_()
    values = torch.empty(drawn.shape, dtype=drawn.dtype, device="cpu").flatten(1)
    if options.init == "gaussian":
        nn.init.normal_(values, std=GAUSSIAN_STD, generator=generator)
    else:
        nn.init.kaiming_uniform_(values, a=math.sqrt(5), generator=generator)
    drawn.copy_(values.view(drawn.shape))


def _principal(a: Tensor, b: Tensor, weight: Tensor, options: LayerOptions) -> None:
    """Set A and B such that scaling * B A is the best approximation of the weight of that rank, part by part."""
    r, block = options.rank, weight.shape[0] // options.blocks
    if r > min(block, weight.shape[1]):
        raise ValueError(f"PiSSA of rank {r} needs a weight of at least that rank, got {block} x {weight.shape[1]}")
    for i, place in enumerate(options.places):
        rows = weight[place * block : (place + 1) * block].to(a.dtype)
        u, s, v = torch.linalg.svd(rows, full_matrices=False)
        root = (s[:r] / options.scaling).sqrt()
        a[i * r : (i + 1) * r].copy_((root[:, None] * v[:r]).view(r, *a.shape[1:]))
        b[i * block : (i + 1) * block].copy_((u[:, :r] * root).view(block, r, *b.shape[2:]))
