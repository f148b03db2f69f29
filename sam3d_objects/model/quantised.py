"""A frozen base in fewer bits, so that a network of a billion weights leaves room for training an adapter.

What trains is not frozen: LoRA's matrices are float32 whatever the base is, and `float32_trained` does the same for
heads that train fully.
"""

from importlib import import_module

import torch
from torch import nn

from sam3d_objects.model.lora import DEFAULT_OUTPUT_LAYERS, has_lora
from sam3d_objects.model.lora.targets import path_test

BASE_DTYPES = ("fp32", "bf16", "int8")
_LEAST_SIDE = 16  # smaller ones save nothing, and torchao 0.18 fails on a single column
_INSTALL = "pip install torchao"


def frozen_base(module: nn.Module, dtype: str) -> None:
    """Freeze a network and keep its weights in `dtype`, in place; adapters are injected afterwards.

    Train it under autocast (the loop's precision bf16 or 16): inputs and adapters are float32, and without autocast a
    layer refuses to mix them.

    Args:
        module: on any device, in float32; without adapters.
        dtype: 'fp32' leaves the numbers as they are; 'bf16' casts them (half the bytes, as `load_model` does with
            that dtype); 'int8' keeps the matrices of linear layers in 8 bits with one scale a row, through torchao,
            which must be installed, and the rest (biases, norms, heads) as it is.

    Raises:
        ValueError: an unknown dtype, torchao is missing, or the module has adapters already; nothing is changed.
    """
    if dtype not in BASE_DTYPES:
        raise ValueError(f"a base is kept in {', '.join(BASE_DTYPES)}; got {dtype!r}")
    if has_lora(module):
        raise ValueError("the base is cast before adapters are injected, and this module has some already")
    if dtype == "int8":
        _quantise(module)
    elif dtype == "bf16":
        module.to(torch.bfloat16)
    module.requires_grad_(False)


def _quantise(module: nn.Module) -> None:
    try:
        torchao = import_module("torchao.quantization")
    except ImportError as error:
        raise ValueError(f"an int8 base needs torchao: {_INSTALL} (or take bf16, which needs nothing)") from error
    # Without the second word torchao changes torch.compile's settings for the whole process.
    way = torchao.Int8WeightOnlyConfig(set_inductor_config=False)
    torchao.quantize_(module, way, filter_fn=_worth_quantising)


def _worth_quantising(layer: nn.Module, path: str) -> bool:
    """Whether a layer is a matrix of some size, and none of the heads, which train fully in float32."""
    if any(path_test(pattern)(path) for pattern in DEFAULT_OUTPUT_LAYERS):
        return False
    return isinstance(layer, nn.Linear) and min(layer.weight.shape) >= _LEAST_SIDE


def float32_trained(module: nn.Module) -> int:
    """Keep in float32 what trains, in place, after adapters were injected: bfloat16 would round its updates away.

    A head on a half-precision base then needs autocast wherever it runs.

    Returns:
        The number of parameters (elements) that were cast.
    """
    cast = 0
    for parameter in module.parameters():
        if parameter.requires_grad and parameter.dtype != torch.promote_types(parameter.dtype, torch.float32):
            parameter.data = parameter.data.float()
            cast += parameter.numel()
    return cast
