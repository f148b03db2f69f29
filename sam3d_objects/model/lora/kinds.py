"""Which layers can be adapted, and by what."""

import torch
from torch import nn

from sam3d_objects.model.latent.mesh_decoder import PointConv
from sam3d_objects.model.lora.attention import LoRAMultiheadAttention
from sam3d_objects.model.lora.convolution import LoRAConv
from sam3d_objects.model.lora.embedding import LoRAEmbedding
from sam3d_objects.model.lora.frame import Frame
from sam3d_objects.model.lora.layer import LoRALayer
from sam3d_objects.model.lora.linear import LoRALinear
from sam3d_objects.model.lora.options import LayerOptions
from sam3d_objects.model.lora.sparse import LoRASparse
from sam3d_objects.model.sparse import SparseConv3d

ADAPTABLE = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Embedding, nn.MultiheadAttention, SparseConv3d, PointConv)
KINDS_TEXT = "nn.Linear, convolution, embedding or nn.MultiheadAttention"


def can_adapt(module: nn.Module) -> bool:
    """Whether a module is a plain layer that an adapter can be put on."""
    return isinstance(module, ADAPTABLE) and not isinstance(module, LoRALayer)


def adapted(
    module: nn.Module,
    options: LayerOptions,
    adapter: str,
    generator: torch.Generator | None = None,
    draw: bool = True,
) -> LoRALayer:
    """Return the adapted layer around a plain one, which is frozen; `draw` False leaves the matrices zero.

    Raises:
        ValueError: this kind of layer can't be adapted, or not with such options.
    """
    if isinstance(module, nn.Linear):
        o = options
        return LoRALinear(
            module,
            o.rank,
            o.alpha,
            o.dropout,
            rslora=o.rslora,
            init=o.init,
            dora=o.dora,
            parts=o.parts,
            adapter=adapter,
            generator=generator,
            draw=draw,
        )
    if isinstance(module, nn.Embedding):
        return LoRAEmbedding(module, options, adapter=adapter, generator=generator, draw=draw)
    if isinstance(module, nn.MultiheadAttention):
        return LoRAMultiheadAttention(module, options, adapter=adapter, generator=generator, draw=draw)
    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        return LoRAConv(module, options, adapter=adapter, generator=generator, draw=draw)
    if isinstance(module, SparseConv3d | PointConv):
        return LoRASparse(module, options, adapter=adapter, generator=generator, draw=draw)
    raise ValueError(f"an adapter needs an {KINDS_TEXT}, got {type(module).__name__}")


def frame_of(module: nn.Module) -> Frame:
    """Return what decides the shapes of adapters of a layer, plain or adapted.

    Raises:
        ValueError: this kind of layer can't be adapted.
    """
    if isinstance(module, LoRALayer):
        return module.frame
    if isinstance(module, nn.Linear):
        return LoRALinear.frame_of(module)
    if isinstance(module, nn.Embedding):
        return LoRAEmbedding.frame_of(module)
    if isinstance(module, nn.MultiheadAttention):
        return LoRAMultiheadAttention.frame_of(module)
    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        return LoRAConv.frame_of(module)
    if isinstance(module, SparseConv3d | PointConv):
        return LoRASparse.frame_of(module)
    raise ValueError(f"an adapter needs an {KINDS_TEXT}, got {type(module).__name__}")
