"""Activation checkpointing by block (Chen et al. 2016, arXiv 1604.06174).

A checkpointed block keeps its inputs only and computes its inside again in the backward pass: about a third more
work, for the memory of one block's inside instead of all blocks'.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from sam3d_objects.model.latent.flow import ModulatedCrossBlock, SparseResBlock
from sam3d_objects.model.latent.mesh_decoder import SubdivideBlock
from sam3d_objects.model.latent.transformer import TransformerBlock
from sam3d_objects.model.structure.flow import StreamBlock

# Transformer blocks, and the residual blocks around them, which work on finer grids.
BLOCKS = (StreamBlock, ModulatedCrossBlock, TransformerBlock, SparseResBlock, SubdivideBlock)


def checkpoint_blocks(module: nn.Module) -> int:
    """Let every block of a network keep no activations of its inside while it trains, in place.

    Outputs and gradients stay what they are, on a CPU bit for bit: the block is computed again with the same state of
    the random generators (dropout) and of autocast. So do the names of the state dict and the class of each block.
    Without gradients, and in evaluation, blocks run as before. Calling it again changes nothing.

    Args:
        module: a structure flow, latent flow or mesh decoder, or anything that contains some; adapted by LoRA or not.

    Returns:
        The number of blocks; 0 for a network that has none of `BLOCKS`.
    """
    blocks = [block for block in module.modules() if isinstance(block, BLOCKS)]
    for block in blocks:
        if "forward" not in vars(block):
            # On the instance, for a wrapping module would rename the weights. A deep copy gets its own: `partial` and
            # bound methods are copied with what they are bound to.
            vars(block)["forward"] = partial(_forward, block, block.forward)
    return len(blocks)


def _forward(block: nn.Module, forward: Callable[..., Any], *args: Any) -> Any:
    if block.training and torch.is_grad_enabled():
        return checkpoint(forward, *args, use_reentrant=False)
    return forward(*args)
