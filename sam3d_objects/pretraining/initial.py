"""Initial weights of a condition embedder whose tokens attention can read from the first step.

Letters: B batch, T tokens, C channels.
"""

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from sam3d_objects.model.condition.fuser import EmbedderFuser, SwiGLU

INDEX_STD = 0.5


@torch.no_grad()
def draw_readable(embedder: EmbedderFuser, inputs: Mapping[str, Tensor]) -> None:
    """Draw positions of unit variance, and scale the projections to tokens of root mean square 1, for each embedder.

    As constructed, positions (std .02, as in DINOv2) are drowned by the content of the patches, and three linear layers
    in a row make tokens of .1, so that attention sees one token much like another. A large network grows out of
    that in long pretraining; a small one in a short one does not. The scale is measured on data, as in LSUV (Mishkin
    and Matas 2016, arXiv 1511.06422).

    Args:
        embedder: changed in place; positions are drawn from torch's global generator.
        inputs: a batch of its inputs, each (B, c, Y, X).
    """
    for name, parameter in embedder.named_parameters():
        if name.endswith("pos_embed"):
            parameter.copy_(torch.randn_like(parameter))
    embedder.idx_emb.copy_(INDEX_STD * torch.randn_like(embedder.idx_emb))
    for module, projection, wanted in zip(
        embedder.module_list, embedder.projection_nets, embedder.inputs, strict=True
    ):
        tokens = torch.cat([projection(module(inputs[name])) for name, _ in wanted])
        swiglu = cast(SwiGLU, cast(nn.Sequential, projection)[1])
        swiglu.w2.weight.div_(tokens.square().mean().sqrt())
